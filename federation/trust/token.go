package trust

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Tokens let a datacenter join that shares no gossip key: the primary makes one,
// an operator carries it over, and it works once, soon, and with nobody but the
// federation that made it.
const (
	// TokenPrefix begins every token, so that it can be told from an address.
	TokenPrefix = "lbjoin-"

	defaultTokenLife  = time.Hour
	maxTokenLife      = 24 * time.Hour
	maxTokens         = 64
	maxTokenAddresses = 16
	tokenSecretSize   = 32
)

// joinToken is what a token says.
type joinToken struct {
	id          string
	secret      []byte
	fingerprint string // of the root in force when it was made
	addresses   []string
}

func (t *joinToken) fields(c *codec) {
	c.version()
	c.text(2, &t.id)
	c.bytes(3, &t.secret)
	root, _ := hex.DecodeString(t.fingerprint)
	c.bytes(4, &root)
	t.fingerprint = hex.EncodeToString(root)
	list(c, 5, &t.addresses, maxTokenAddresses, "addresses")
}

// String is the token as operators carry it.
func (t *joinToken) String() string {
	b := encodeMessage(nil, t)
	// The sum finds slips of the pen, which would otherwise look like a wrong secret.
	sum := sha256.Sum256(b)
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:4]...))
}

var errToken = errors.New("is cut or changed: copy it whole")

func parseToken(s string) (*joinToken, error) {
	bad := func(err error) (*joinToken, error) {
		return nil, store.Errorf(store.KindInvalid, "the join token %w", err)
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(s), TokenPrefix)
	if !ok || len(text) > 8192 {
		return bad(errToken)
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < 4 {
		return bad(errToken)
	}
	b, sum := b[:len(b)-4], b[len(b)-4:]
	if want := sha256.Sum256(b); !bytes.Equal(sum, want[:4]) {
		return bad(errToken)
	}
	t := &joinToken{}
	if err := decodeMessage(b, t); err != nil {
		return nil, invalid(err)
	}
	if t.id == "" || len(t.secret) != tokenSecretSize || len(t.fingerprint) != 2*sha256.Size || len(t.addresses) == 0 {
		return bad(errToken)
	}
	return t, nil
}

// verifier is the key that proofs are made with: the primary keeps it and not the
// secret, which nobody can show again.
func verifier(secret []byte) []byte {
	k, err := hkdf.Key(sha256.New, secret, nil, "landbridge join token 1", sha256.Size)
	if err != nil {
		panic("trust: " + err.Error()) // only for lengths beyond HKDF's limit
	}
	return k
}

// NewToken is a token for people, as JSON.
type NewToken struct {
	Token      string
	ID         string
	Expires    time.Time
	Datacenter string `json:",omitempty"` // the only one that may use it
	Addresses  []string
	Root       string
}

// TokenHandler answers Trust.Token on the leader of the primary datacenter.
func (a *Authority) TokenHandler(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	var m tokenRequest
	if err := m.decode(req.Body); err != nil {
		return nil, invalid(err)
	}
	life := time.Duration(min(m.seconds, uint64(maxTokenLife/time.Second)+1)) * time.Second
	switch {
	case life == 0:
		life = defaultTokenLife
	case life > maxTokenLife:
		return nil, store.Errorf(store.KindInvalid, "a token is good for at most %s", maxTokenLife)
	}
	if m.datacenter != "" {
		if err := validDatacenter(m.datacenter); err != nil {
			return nil, err
		}
	}
	for range attempts {
		rec, err := a.lead()
		if err != nil {
			return nil, err
		}
		if dc, err := a.homeOf(rec); err != nil {
			return nil, err
		} else if dc != "" {
			if req.Origin == rpc.FromWAN {
				return nil, store.Errorf(store.KindConflict, "datacenter %s is not the primary, %s is", a.cfg.Datacenter, dc)
			}
			return a.pass(ctx, req, dc)
		}
		if err := a.fencedError(); err != nil {
			return nil, err
		}
		if a.operator.on() {
			return nil, store.Errorf(store.KindConflict, "datacenter %s uses certificates of an operator (tls.internal_rpc): they, not tokens, let datacenters join", a.cfg.Datacenter)
		}
		for _, dc := range rec.Datacenters {
			if dc.Name == m.datacenter {
				return nil, store.Errorf(store.KindConflict, "datacenter %q is a member of this federation already", m.datacenter)
			}
		}
		addrs := m.addresses
		if len(addrs) == 0 && a.cfg.Addresses != nil {
			addrs = a.cfg.Addresses()
		}
		if len(addrs) == 0 {
			return nil, store.Errorf(store.KindInvalid, "no server of datacenter %s takes part in the WAN: name addresses that reach one", a.cfg.Datacenter)
		}
		t := &joinToken{secret: make([]byte, tokenSecretSize), fingerprint: rec.Roots[0].ID, addresses: addrs[:min(len(addrs), maxTokenAddresses)]}
		var id [6]byte
		_, _ = rand.Read(id[:])
		_, _ = rand.Read(t.secret)
		t.id = hex.EncodeToString(id[:])
		now := time.Now()
		next := rec.Clone()
		next.Tokens = slices.DeleteFunc(next.Tokens, func(t store.TrustToken) bool { return t.ExpiresUnix <= now.Unix() })
		if len(next.Tokens) >= maxTokens {
			return nil, store.Errorf(store.KindRateLimited, "%d join tokens are good at present: wait until some have expired", len(next.Tokens))
		}
		expires := now.Add(life)
		next.Tokens = append(next.Tokens, store.TrustToken{ID: t.id, Verifier: verifier(t.secret), ExpiresUnix: expires.Unix(), Datacenter: m.datacenter})
		if err := a.replace(ctx, next); store.KindOf(err) == store.KindConflict {
			continue
		} else if err != nil {
			return nil, err
		}
		a.log.Info("join token made", "token_id", t.id, "expires", expires, "peer_dc", m.datacenter)
		a.wake()
		body, err := json.Marshal(NewToken{Token: t.String(), ID: t.id, Expires: expires.UTC().Truncate(time.Second), Datacenter: m.datacenter, Addresses: t.addresses, Root: t.fingerprint})
		return &rpc.Response{KnownLeader: true, Body: body}, err
	}
	return nil, errChanged
}

// tokenLag is how long a server waits for a token it does not know: the command
// that made it has its answer before the last follower has it.
const tokenLag = time.Second

// awaitToken returns when our record has a token, or will not soon.
func (a *Authority) awaitToken(ctx context.Context, id string) {
	w := a.cfg.State.Watch()
	defer w.Close()
	late := time.NewTimer(tokenLag)
	defer late.Stop()
	for {
		rec := w.Trust()
		if rec != nil && slices.ContainsFunc(rec.Tokens, func(t store.TrustToken) bool { return t.ID == id }) {
			return
		}
		select {
		case <-w.C():
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// usable finds a token in our record that a datacenter may use now. keyHash is
// that of the key its intermediate is for, "" while not known.
func usable(rec *store.Trust, id, dc, keyHash string, now time.Time) (*store.TrustToken, error) {
	for i := range rec.Tokens {
		t := &rec.Tokens[i]
		if t.ID != id {
			continue
		}
		switch {
		case t.ExpiresUnix <= now.Unix():
			return nil, store.Errorf(store.KindPermissionDenied, "the join token %s has expired: make another (landbridge wan token)", id)
		case t.Datacenter != "" && t.Datacenter != dc:
			return nil, store.Errorf(store.KindPermissionDenied, "the join token %s is for datacenter %s, not for %s", id, t.Datacenter, dc)
		case t.UsedBy != "" && (t.UsedBy != dc || keyHash != "" && t.UsedKey != keyHash):
			return nil, store.Errorf(store.KindPermissionDenied, "the join token %s was used, by datacenter %s: make another (landbridge wan token)", id, t.UsedBy)
		}
		return t, nil
	}
	return nil, store.Errorf(store.KindPermissionDenied,
		"the join token %s is not known here: it has expired, or datacenter %q made it in another federation", id, rec.Primary)
}
