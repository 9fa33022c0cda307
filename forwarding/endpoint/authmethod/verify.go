package authmethod

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"landbridge/store"
)

// Identity is who logs in: variables with values.
type Identity struct {
	values map[string]string // what ${name} is replaced by
	fields map[string]any    // what selectors look at
}

// Set verifies logins.
type Set struct {
	mu   sync.Mutex
	sets map[source]*keySet
}

// New returns a Set that has fetched nothing yet.
func New() *Set { return &Set{sets: make(map[source]*keySet)} }

// Verify finds out who presents a bearer token to a method. Its errors say what is
// wrong with the token, and never show it.
func (s *Set) Verify(ctx context.Context, m *store.ACLAuthMethod, bearer string) (*Identity, error) {
	if bearer == "" {
		return nil, store.Errorf(store.KindInvalid, "missing jwt")
	}
	if m.Type == store.MethodKubernetes {
		return kubernetes(ctx, m, bearer)
	}
	c, err := parseJWT(m)
	if err != nil {
		return nil, err
	}
	t, err := parseToken(bearer)
	if err != nil {
		return nil, store.Errorf(store.KindInvalid, "error parsing JWT: %w", err)
	}
	if !slices.Contains(c.JWTSupportedAlgs, t.alg) {
		return nil, store.Errorf(store.KindInvalid, "error verifying token signature: token signed with unexpected algorithm %q, expected one of %v", t.alg, c.JWTSupportedAlgs)
	}
	keys, issuer := c.keys, c.BoundIssuer
	if len(keys) > 0 {
		if !t.signedBy(keys) {
			return nil, errSignature
		}
	} else if issuer, err = s.signed(ctx, c, t); err != nil {
		return nil, err
	}
	if err := c.check(t, issuer, time.Now()); err != nil {
		return nil, store.Errorf(store.KindInvalid, "error validating claims: %w", err)
	}
	id, err := c.identity(t.claims)
	if err != nil {
		return nil, store.Errorf(store.KindInvalid, "error validating claims: %w", err)
	}
	return id, nil
}

var errSignature = &store.Error{Kind: store.KindInvalid, Message: "error verifying token signature: no known key successfully validated the token signature"}

// signed checks the signature with fetched keys, and returns the issuer that the
// token must be of.
func (s *Set) signed(ctx context.Context, c *jwtConfig, t *token) (issuer string, err error) {
	src := source{url: c.JWKSURL, ca: c.JWKSCACert}
	if c.OIDCDiscoveryURL != "" {
		src = source{url: c.OIDCDiscoveryURL, ca: c.OIDCDiscoveryCACert, discovery: true}
	}
	set := s.set(src)
	for _, again := range []bool{false, true} {
		keys, of, err := set.get(ctx, src, again)
		if err != nil {
			return "", store.Errorf(store.KindInternal, "error verifying token signature: fetching keys: %w", err)
		}
		if !t.signedBy(keys) {
			continue // perhaps by a new key
		}
		if c.BoundIssuer != "" {
			return c.BoundIssuer, nil
		}
		return of, nil
	}
	return "", errSignature
}

func (s *Set) set(src source) *keySet {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.sets[src]
	if set == nil {
		if len(s.sets) >= maxSets { // of methods that have changed since
			clear(s.sets)
		}
		set = new(keySet)
		s.sets[src] = set
	}
	return set
}

// serviceAccount begins the names of users that are service accounts.
const serviceAccount = "system:serviceaccount:"

// kubernetes asks a cluster's API whose token it is (authentication.k8s.io/v1).
func kubernetes(ctx context.Context, m *store.ACLAuthMethod, bearer string) (*Identity, error) {
	c, err := parseKubernetes(m)
	if err != nil {
		return nil, err
	}
	type spec struct {
		Token string `json:"token"`
	}
	body, err := json.Marshal(struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       spec   `json:"spec"`
	}{"authentication.k8s.io/v1", "TokenReview", spec{bearer}})
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "encoding a token review: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	cl, done, err := client(c.CACert)
	if err != nil {
		return nil, store.Errorf(store.KindInvalid, "Config.CACert: %w", err)
	}
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.Host, "/")+"/apis/authentication.k8s.io/v1/tokenreviews", bytes.NewReader(body))
	if err != nil {
		return nil, store.Errorf(store.KindInvalid, "Config.Host: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.ServiceAccountJWT)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	var review struct {
		Status struct {
			Authenticated bool   `json:"authenticated"`
			Error         string `json:"error"`
			User          struct {
				Username string `json:"username"`
				UID      string `json:"uid"`
			} `json:"user"`
		} `json:"status"`
	}
	if err := do(cl, req, &review); err != nil {
		return nil, store.Errorf(store.KindInternal, "lookup failed: token review: %w", err)
	}
	st := &review.Status
	switch {
	case st.Error != "":
		return nil, store.Errorf(store.KindPermissionDenied, "Permission denied: lookup failed: %s", st.Error)
	case !st.Authenticated:
		return nil, store.Errorf(store.KindPermissionDenied, "Permission denied: lookup failed: service account jwt not valid")
	}
	account, ok := strings.CutPrefix(st.User.Username, serviceAccount)
	namespace, name, two := strings.Cut(account, ":")
	if !ok || !two || namespace == "" || name == "" || strings.Contains(name, ":") {
		return nil, store.Errorf(store.KindPermissionDenied, "Permission denied: lookup failed: unexpected username format %q", st.User.Username)
	}
	values := map[string]string{"namespace": namespace, "name": name, "uid": st.User.UID}
	id := &Identity{values: map[string]string{}, fields: map[string]any{"serviceaccount": values}}
	for k, v := range values {
		id.values["serviceaccount."+k] = v
	}
	return id, nil
}
