package authmethod

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // what algorithms hash with
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// algorithm is a way to sign (RFC 7518, 8037).
type algorithm struct {
	hash  crypto.Hash
	pss   bool
	curve elliptic.Curve // nil unless ECDSA
	ed    bool
}

var algorithms = map[string]algorithm{
	"RS256": {hash: crypto.SHA256}, "RS384": {hash: crypto.SHA384}, "RS512": {hash: crypto.SHA512},
	"PS256": {hash: crypto.SHA256, pss: true}, "PS384": {hash: crypto.SHA384, pss: true}, "PS512": {hash: crypto.SHA512, pss: true},
	"ES256": {hash: crypto.SHA256, curve: elliptic.P256()}, "ES384": {hash: crypto.SHA384, curve: elliptic.P384()}, "ES512": {hash: crypto.SHA512, curve: elliptic.P521()},
	"EdDSA": {ed: true},
}

// key verifies signatures.
type key struct {
	id  string // kid, "" if it has none
	alg string // that it is limited to, "" for all of its kind
	pub any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// minRSA is the least size of a modulus in bits.
const minRSA = 2048

func publicKey(block *pem.Block) (key, error) {
	var pub any
	var err error
	switch block.Type {
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			pub = c.PublicKey
		}
	case "RSA PUBLIC KEY":
		pub, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		pub, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	if err != nil {
		return key{}, err
	}
	return key{pub: pub}, usable(pub)
}

func usable(pub any) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return fmt.Errorf("an RSA key of %d bits is too short", k.N.BitLen())
		}
		return nil
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("keys of type %T are not supported", pub)
}

// verifies is whether sig is a's signature of data by k. A key of another kind is
// no error: a set holds keys of all kinds.
func (a algorithm) verifies(k key, data, sig []byte) bool {
	switch pub := k.pub.(type) {
	case *rsa.PublicKey:
		if a.hash == 0 || a.curve != nil || a.ed {
			return false
		}
		sum := hashed(a.hash, data)
		if a.pss {
			return rsa.VerifyPSS(pub, a.hash, sum, sig, nil) == nil
		}
		return rsa.VerifyPKCS1v15(pub, a.hash, sum, sig) == nil
	case *ecdsa.PublicKey:
		if a.curve == nil || pub.Curve != a.curve {
			return false
		}
		n := (a.curve.Params().BitSize + 7) / 8
		if len(sig) != 2*n {
			return false
		}
		return ecdsa.Verify(pub, hashed(a.hash, data), new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
	case ed25519.PublicKey:
		return a.ed && ed25519.Verify(pub, data, sig)
	}
	return false
}

func hashed(h crypto.Hash, data []byte) []byte {
	w := h.New()
	w.Write(data)
	return w.Sum(nil)
}

// maxToken bounds what is looked at: the largest headers of proxies are 16 KB.
const maxToken = 64 << 10

// token is a JWT in compact form, not yet verified.
type token struct {
	alg, kid string
	signed   []byte
	sig      []byte
	claims   map[string]any
}

var errMalformed = errors.New("it is not a signed JWT")

func parseToken(text string) (*token, error) {
	if len(text) > maxToken {
		return nil, fmt.Errorf("it has %d bytes", len(text))
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errMalformed
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return nil, errMalformed
		}
	}
	var head struct {
		Alg  string          `json:"alg"`
		Kid  string          `json:"kid"`
		Crit json.RawMessage `json:"crit"`
	}
	if json.Unmarshal(raw[0], &head) != nil {
		return nil, errMalformed
	}
	if head.Crit != nil {
		return nil, errors.New("it has critical extensions, which are not supported")
	}
	t := &token{alg: head.Alg, kid: head.Kid, signed: []byte(text[:len(parts[0])+1+len(parts[1])]), sig: raw[2]}
	d := json.NewDecoder(bytes.NewReader(raw[1]))
	d.UseNumber() // ids that are numbers keep all their digits
	if d.Decode(&t.claims) != nil || t.claims == nil {
		return nil, errMalformed
	}
	return t, nil
}

// signedBy is whether one of the keys made the signature.
func (t *token) signedBy(keys []key) bool {
	a := algorithms[t.alg]
	for _, k := range keys {
		if (t.kid == "" || k.id == "" || k.id == t.kid) && (k.alg == "" || k.alg == t.alg) && a.verifies(k, t.signed, t.sig) {
			return true
		}
	}
	return false
}

// Leeways when none are configured.
const (
	defaultLeeway = 150 * time.Second
	defaultSkew   = 60 * time.Second
)

// check says what is wrong with the claims at now.
func (c *jwtConfig) check(t *token, issuer string, now time.Time) error {
	if issuer != "" && t.claims["iss"] != issuer {
		return errors.New("iss claim does not match bound issuer")
	}
	if len(c.BoundAudiences) > 0 && !slices.ContainsFunc(audiences(t.claims["aud"]), func(a string) bool { return slices.Contains(c.BoundAudiences, a) }) {
		return errors.New("aud claim does not match any bound audience")
	}
	var at [3]float64
	for i, name := range []string{"iat", "exp", "nbf"} {
		var err error
		if at[i], err = date(t.claims, name); err != nil {
			return err
		}
	}
	issued, expires, from := at[0], at[1], at[2]
	if issued == 0 && expires == 0 && from == 0 {
		return errors.New("no issued at (iat), not before (nbf), or expiration time (exp) claims in token")
	}
	if expires == 0 {
		expires = max(issued, from) + c.ExpirationLeeway.or(defaultLeeway).Seconds()
	}
	if from == 0 {
		if from = issued; from == 0 {
			from = expires - c.NotBeforeLeeway.or(defaultLeeway).Seconds()
		}
	}
	skew := c.ClockSkewLeeway.or(defaultSkew).Seconds()
	t0 := float64(now.UnixNano()) / 1e9
	if t0+skew < from {
		return errors.New("invalid not before (nbf) claim: token not yet valid")
	}
	if t0-skew >= expires {
		return errors.New("invalid expiration time (exp) claim: token is expired")
	}
	return nil
}

func audiences(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var list []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}

// date is a claim that says when, in seconds; 0 if it is not there.
func date(claims map[string]any, name string) (float64, error) {
	v, ok := claims[name]
	if !ok || v == nil {
		return 0, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Errorf("the %s claim is not a number", name)
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 || f > 1e15 {
		return 0, fmt.Errorf("the %s claim is not a time", name)
	}
	return f, nil
}

// identity takes the mapped claims. Those that are not there are empty, so that
// selectors may ask for them.
func (c *jwtConfig) identity(claims map[string]any) (*Identity, error) {
	id := &Identity{values: map[string]string{}, fields: map[string]any{}}
	values, lists := map[string]string{}, map[string][]string{}
	for claim, name := range c.ClaimMappings {
		s := ""
		if v := find(claims, claim); v != nil {
			var ok bool
			if s, ok = scalar(v); !ok {
				return nil, fmt.Errorf("error converting claim '%s' to string from unknown type %T", claim, v)
			}
		}
		values[name] = s
		id.values["value."+name] = s
	}
	for claim, name := range c.ListClaimMappings {
		lists[name] = []string{}
		v := find(claims, claim)
		list, ok := v.([]any)
		if !ok && v != nil {
			list = []any{v} // one value without its brackets
		}
		for _, e := range list {
			s, ok := scalar(e)
			if !ok {
				return nil, fmt.Errorf("value %v in claim '%s' could not be parsed as string", e, claim)
			}
			lists[name] = append(lists[name], s)
		}
	}
	id.fields["value"], id.fields["list"] = values, lists
	return id, nil
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// find returns a claim by its name, or by a JSON pointer (RFC 6901).
func find(claims map[string]any, name string) any {
	if !strings.HasPrefix(name, "/") {
		return claims[name]
	}
	var at any = claims
	for _, step := range strings.Split(name[1:], "/") {
		step = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
		switch v := at.(type) {
		case map[string]any:
			at = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			at = v[i]
		default:
			return nil
		}
	}
	return at
}
