package gossip

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// KeyResponse says what the members answered to a keyring operation. Keys are
// base64, as users write them.
type KeyResponse struct {
	Messages    map[string]string // by member: what went wrong there
	NumNodes    int
	NumResp     int
	NumErr      int
	Keys        map[string]int // key -> members that have it
	PrimaryKeys map[string]int
}

// PrimaryKey returns the key that encrypts what we send, nil without encryption.
func (p *Pool) PrimaryKey() []byte {
	if p.keyring == nil {
		return nil
	}
	return bytes.Clone(p.keyring.GetPrimaryKey())
}

// Encrypted says whether the pool has a keyring.
func (p *Pool) Encrypted() bool { return p.keyring != nil }

// KeyOp is what is done to the rings of all members.
type KeyOp uint8

const (
	ListKeys   KeyOp = iota + 1
	InstallKey       // add a key
	UseKey           // make an installed key the primary one
	RemoveKey        // remove a key that is not the primary one
)

// KeyOp applies an operation to the rings of all members; key is base64, and
// ignored by ListKeys. Members send their answer through relay others too, for
// networks that lose packets. It takes as long as a query in a pool of that size,
// a few seconds at most. An error counts the members that failed or did not
// answer: what was answered comes with it, and stays done.
func (p *Pool) KeyOp(ctx context.Context, op KeyOp, key string, relay uint8) (*KeyResponse, error) {
	if op != ListKeys {
		if err := validKey(key); err != nil {
			return nil, err
		}
	}
	return await(ctx, p, func(s *serf.Serf) (*KeyResponse, error) {
		m, opts := s.KeyManager(), &serf.KeyRequestOptions{RelayFactor: relay}
		var r *serf.KeyResponse
		var err error
		switch op {
		case ListKeys:
			r, err = m.ListKeysWithOptions(opts)
		case InstallKey:
			r, err = m.InstallKeyWithOptions(key, opts)
		case UseKey:
			r, err = m.UseKeyWithOptions(key, opts)
		case RemoveKey:
			r, err = m.RemoveKeyWithOptions(key, opts)
		default:
			err = fmt.Errorf("keyring operation %d is not known", op)
		}
		if r == nil {
			return nil, err
		}
		delete(r.PrimaryKeys, "") // of members that named none
		for node, text := range r.Messages {
			if text == "removing the primary key is not allowed" {
				r.Messages[node] = "Removing the primary key is not allowed" // the words tools know
			}
		}
		return &KeyResponse{
			Messages: r.Messages, NumNodes: r.NumNodes, NumResp: r.NumResp, NumErr: r.NumErr,
			Keys: r.Keys, PrimaryKeys: r.PrimaryKeys,
		}, err
	})
}

// validKey keeps the key itself out of the error: it would end up in logs.
func validKey(key string) error {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return err // names a position only
	}
	return memberlist.ValidateKey(raw)
}

// loadKeyring reads the file, or makes it with key when there is none. Without
// both the pool is not encrypted. The first key of the file is the primary.
func loadKeyring(file string, key []byte) (*memberlist.Keyring, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err == nil {
			return parseKeyring(file, b)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read keyring: %w", err)
		}
	}
	if len(key) == 0 {
		return nil, nil
	}
	if file != "" {
		if err := writeKeyring(file, [][]byte{key}); err != nil {
			return nil, fmt.Errorf("write keyring: %w", err)
		}
	}
	return memberlist.NewKeyring(nil, key)
}

func parseKeyring(file string, b []byte) (*memberlist.Keyring, error) {
	var encoded []string
	if err := json.Unmarshal(b, &encoded); err != nil {
		return nil, fmt.Errorf("keyring %s is not a JSON list of strings", file)
	}
	if len(encoded) == 0 {
		return nil, fmt.Errorf("keyring %s has no keys: remove it, or put one there", file)
	}
	keys := make([][]byte, len(encoded))
	for i, s := range encoded {
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, fmt.Errorf("keyring %s: key %d is not base64", file, i+1)
		}
		if err := memberlist.ValidateKey(raw); err != nil {
			return nil, fmt.Errorf("keyring %s: key %d: %w", file, i+1, err)
		}
		keys[i] = raw
	}
	return memberlist.NewKeyring(keys, keys[0])
}

func writeKeyring(file string, keys [][]byte) error {
	encoded := make([]string, len(keys))
	for i, k := range keys {
		encoded[i] = base64.StdEncoding.EncodeToString(k)
	}
	b, err := json.MarshalIndent(encoded, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".keyring-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // a no-op after the rename
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
