package authmethod

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	fetchTime  = 10 * time.Second
	fetchBytes = 1 << 20
	// keysLive is how long fetched keys are used without asking again.
	keysLive = time.Hour
	// keysPause is the least time between two fetches of one set, also of failed ones.
	keysPause = 5 * time.Second
	maxSets   = 256
)

// source is where keys come from.
type source struct {
	url, ca   string
	discovery bool // url is an issuer's, and its configuration names the set
}

// keySet are the keys of a source.
type keySet struct {
	mu      sync.Mutex // held while fetching: others wait for the same answer
	keys    []key
	issuer  string // with discovery
	fetched time.Time
	asked   time.Time
	err     error
}

// get returns the keys; with missing, one that was looked for is not among those of
// before.
func (s *keySet) get(ctx context.Context, src source, missing bool) ([]key, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.fetched.IsZero() && now.Sub(s.fetched) < keysLive && !missing || now.Sub(s.asked) < keysPause {
		if s.keys == nil && s.err != nil {
			return nil, "", s.err
		}
		return s.keys, s.issuer, nil
	}
	s.asked = now
	keys, issuer, err := src.fetch(ctx)
	if err != nil {
		if ctx.Err() != nil && s.keys == nil {
			s.asked = time.Time{} // the caller left: no verdict on the source
		}
		s.err = err
		if s.keys != nil {
			return s.keys, s.issuer, nil // of before: they are still its keys as far as we know
		}
		return nil, "", err
	}
	s.keys, s.issuer, s.fetched, s.err = keys, issuer, now, nil
	return keys, issuer, nil
}

func (src source) fetch(ctx context.Context) ([]key, string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	c, done, err := client(src.ca)
	if err != nil {
		return nil, "", err
	}
	defer done()
	at, issuer := src.url, ""
	if src.discovery {
		var conf struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		if err := getJSON(ctx, c, strings.TrimSuffix(src.url, "/")+"/.well-known/openid-configuration", &conf); err != nil {
			return nil, "", err
		}
		if strings.TrimSuffix(conf.Issuer, "/") != strings.TrimSuffix(src.url, "/") {
			return nil, "", fmt.Errorf("the issuer at %s calls itself %q", src.url, conf.Issuer)
		}
		at, issuer = conf.JWKS, conf.Issuer
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := getJSON(ctx, c, at, &set); err != nil {
		return nil, "", err
	}
	keys := make([]key, 0, len(set.Keys))
	for i := range set.Keys {
		if k, err := set.Keys[i].key(); err == nil { // others are for another use, or of a kind to come
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, "", fmt.Errorf("%s has no key that can verify signatures", at)
	}
	return keys, issuer, nil
}

// client trusts a CA, or the machine's without one. It does not keep connections.
func client(ca string) (*http.Client, func(), error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: fetchTime}
	if ca != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(ca)) {
			return nil, nil, errors.New("the CA certificate is not PEM")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	// A redirect may lead anywhere: who configured the address did not mean that.
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: t, CheckRedirect: refuse}, t.CloseIdleConnections, nil
}

func getJSON(ctx context.Context, c *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return do(c, req, into)
}

func do(c *http.Client, req *http.Request, into any) error {
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, fetchBytes))
	if err != nil {
		return fmt.Errorf("%s: %w", req.URL, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers with status %d", req.URL, resp.StatusCode)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", req.URL, err)
	}
	return nil
}

// jwk is a key in JSON (RFC 7517).
type jwk struct {
	Kty, Use, Kid, Alg, Crv string
	N, E, X, Y              string
}

func (j *jwk) key() (key, error) {
	k := key{id: j.Kid, alg: j.Alg}
	if j.Use != "" && j.Use != "sig" {
		return k, errors.New("not for signatures")
	}
	num := func(s string) (*big.Int, error) {
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
		if err != nil || len(b) == 0 || len(b) > 2048 {
			return nil, errors.New("malformed number")
		}
		return new(big.Int).SetBytes(b), nil
	}
	switch j.Kty {
	case "RSA":
		n, err := num(j.N)
		if err != nil {
			return k, err
		}
		e, err := num(j.E)
		if err != nil || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return k, errors.New("malformed exponent")
		}
		k.pub = &rsa.PublicKey{N: n, E: int(e.Int64())}
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		if curve == nil {
			return k, errors.New("unknown curve")
		}
		size := (curve.Params().BitSize + 7) / 8
		x, err := num(j.X)
		if err != nil {
			return k, err
		}
		y, err := num(j.Y)
		if err != nil || x.BitLen() > 8*size || y.BitLen() > 8*size {
			return k, errors.New("malformed point")
		}
		point := make([]byte, 1+2*size)
		point[0] = 4
		x.FillBytes(point[1 : 1+size])
		y.FillBytes(point[1+size:])
		pub, err := ecdsa.ParseUncompressedPublicKey(curve, point) // refuses points off the curve
		if err != nil {
			return k, err
		}
		k.pub = pub
	case "OKP":
		b, err := base64.RawURLEncoding.DecodeString(j.X)
		if err != nil || j.Crv != "Ed25519" || len(b) != ed25519.PublicKeySize {
			return k, errors.New("malformed Ed25519 key")
		}
		k.pub = ed25519.PublicKey(b)
	default:
		return k, errors.New("unknown kind of key")
	}
	return k, usable(k.pub)
}
