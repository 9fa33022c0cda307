package transport

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const secretSize = 32

// LoadSecret reads the secret in file, or makes one there, readable by the owner
// only and durable on return. A file that is too short is an error: to replace
// it silently would hide that the data folder is damaged.
func LoadSecret(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	switch {
	case err == nil && len(b) >= minSecret:
		return b, nil
	case err == nil:
		return nil, fmt.Errorf("wan/transport: secret %s has %d bytes, want %d: remove it to make a new one", file, len(b), secretSize)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("wan/transport: read secret: %w", err)
	}
	secret := make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails: crypto/rand aborts the process instead
	if err := writeDurably(file, secret); err != nil {
		return nil, fmt.Errorf("wan/transport: write secret: %w", err)
	}
	return secret, nil
}

func writeDurably(file string, b []byte) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".secret-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // a no-op after the rename
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// derive makes a key of its own for each purpose out of the secret.
func derive(secret []byte, purpose string, n uint64) (key [32]byte) {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(purpose))
	h.Write(binary.BigEndian.AppendUint64([]byte{0}, n))
	h.Sum(key[:0])
	return key
}

// ticketKeys returns the keys of session tickets: today's and yesterday's. They
// differ by protocol, so that a ticket got while enrolling opens nothing else.
func ticketKeys(secret []byte, alpn string, now time.Time) [][32]byte {
	day := uint64(max(now.Unix(), 0)) / 86400
	return [][32]byte{derive(secret, "ticket "+alpn, day), derive(secret, "ticket "+alpn, day-1)}
}
