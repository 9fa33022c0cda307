package authmethod

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"landbridge/store"
)

// Bounds of MaxTokenTTL.
const (
	minTTL = time.Minute
	maxTTL = 24 * time.Hour
)

// CheckMethod refuses a method that could not work, and puts its configuration in
// the form that is stored. Its errors are of KindInvalid.
func CheckMethod(m *store.ACLAuthMethod) error {
	switch m.Type {
	case store.MethodJWT, store.MethodKubernetes:
	case store.MethodAWS:
		return store.Errorf(store.KindNotBuilt, "auth methods of type %q are not built yet", m.Type)
	default:
		return store.Errorf(store.KindInvalid, "Invalid Auth Method: Type should be one of: [aws-iam jwt kubernetes]")
	}
	if m.MaxTokenTTL != 0 && (m.MaxTokenTTL < minTTL || m.MaxTokenTTL > maxTTL) {
		return store.Errorf(store.KindInvalid, "MaxTokenTTL %s cannot be less than %s or more than %s", m.MaxTokenTTL, minTTL, maxTTL)
	}
	switch m.TokenLocality {
	case "", store.LocalityLocal, store.LocalityGlobal:
	default:
		return store.Errorf(store.KindInvalid, "Invalid Auth Method: TokenLocality should be one of 'local' or 'global', is %q", m.TokenLocality)
	}
	var config map[string]any
	if len(m.Config) > 0 {
		if err := json.Unmarshal(m.Config, &config); err != nil {
			return store.Errorf(store.KindInvalid, "Invalid Auth Method: Config: %w", err)
		}
	}
	if config == nil {
		config = map[string]any{}
	}
	text, err := json.Marshal(config) // keys sorted: equal settings are equal bytes
	if err != nil {
		return store.Errorf(store.KindInvalid, "Invalid Auth Method: Config: %w", err)
	}
	m.Config = text
	if m.Type == store.MethodJWT {
		_, err = parseJWT(m)
	} else {
		_, err = parseKubernetes(m)
	}
	return err
}

// duration is a string with a unit, or a number of nanoseconds.
type duration struct {
	set bool
	d   time.Duration
}

func (d *duration) UnmarshalJSON(b []byte) error {
	d.set = true
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil || s == "" {
			d.set = false
			return err
		}
		var err error
		d.d, err = time.ParseDuration(s)
		return err
	}
	var n int64
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	d.d = time.Duration(n)
	return nil
}

// or is the leeway: a default when unset or 0, none when negative.
func (d duration) or(otherwise time.Duration) time.Duration {
	switch {
	case d.d < 0:
		return 0
	case !d.set || d.d == 0:
		return otherwise
	}
	return d.d
}

// jwtConfig is the configuration of a method of type jwt.
type jwtConfig struct {
	JWTValidationPubKeys []string
	JWKSURL              string
	JWKSCACert           string
	OIDCDiscoveryURL     string
	OIDCDiscoveryCACert  string
	BoundAudiences       []string
	BoundIssuer          string
	JWTSupportedAlgs     []string
	ClaimMappings        map[string]string // claim -> variable
	ListClaimMappings    map[string]string
	ExpirationLeeway     duration
	NotBeforeLeeway      duration
	ClockSkewLeeway      duration

	keys []key // of JWTValidationPubKeys
}

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func decodeConfig(m *store.ACLAuthMethod, into any) error {
	d := json.NewDecoder(bytes.NewReader(m.Config))
	d.DisallowUnknownFields()
	if len(m.Config) == 0 {
		return nil
	}
	if err := d.Decode(into); err != nil {
		return store.Errorf(store.KindInvalid, "error decoding config for auth method %q: %w", m.Name, err)
	}
	return nil
}

func parseJWT(m *store.ACLAuthMethod) (*jwtConfig, error) {
	c := new(jwtConfig)
	if err := decodeConfig(m, c); err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) (*jwtConfig, error) {
		return nil, store.Errorf(store.KindInvalid, format, args...)
	}
	sources := 0
	for _, given := range []bool{len(c.JWTValidationPubKeys) > 0, c.JWKSURL != "", c.OIDCDiscoveryURL != ""} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return bad("exactly one of 'JWTValidationPubKeys', 'JWKSURL', or 'OIDCDiscoveryURL' must be set for type %q", m.Type)
	}
	for _, u := range []struct{ name, value string }{{"JWKSURL", c.JWKSURL}, {"OIDCDiscoveryURL", c.OIDCDiscoveryURL}} {
		if u.value == "" {
			continue
		}
		if p, err := url.Parse(u.value); err != nil || p.Scheme != "https" && p.Scheme != "http" || p.Host == "" {
			return bad("%s: %q is not an HTTP address", u.name, u.value)
		}
	}
	if c.JWKSCACert != "" && c.JWKSURL == "" {
		return bad("'JWKSCACert' should not be set unless 'JWKSURL' is set")
	}
	if c.OIDCDiscoveryCACert != "" && c.OIDCDiscoveryURL == "" {
		return bad("'OIDCDiscoveryCACert' should not be set unless 'OIDCDiscoveryURL' is set")
	}
	for _, ca := range []struct{ name, text string }{{"JWKSCACert", c.JWKSCACert}, {"OIDCDiscoveryCACert", c.OIDCDiscoveryCACert}} {
		if ca.text != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(ca.text)) {
			return bad("%s: could not parse CA PEM value successfully", ca.name)
		}
	}
	for i, text := range c.JWTValidationPubKeys {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return bad("error parsing public key JWTValidationPubKeys[%d]: it is not PEM", i)
		}
		k, err := publicKey(block)
		if err != nil {
			return bad("error parsing public key JWTValidationPubKeys[%d]: %w", i, err)
		}
		c.keys = append(c.keys, k)
	}
	if len(c.JWTSupportedAlgs) == 0 {
		c.JWTSupportedAlgs = []string{"RS256"}
	}
	for _, name := range c.JWTSupportedAlgs {
		if _, ok := algorithms[name]; !ok {
			return bad("Invalid supported algorithm: %q", name)
		}
	}
	seen := map[string]bool{}
	for _, mapping := range []map[string]string{c.ClaimMappings, c.ListClaimMappings} {
		clear(seen)
		for claim, v := range mapping {
			switch {
			case claim == "":
				return bad("claim mapping to %q names no claim", v)
			case !variableForm.MatchString(v):
				return bad("claim mapping contains an invalid key name %q", v)
			case seen[v]:
				return bad("multiple claim mappings for %q", v)
			}
			seen[v] = true
		}
	}
	return c, nil
}

// kubernetesConfig is the configuration of a method of type kubernetes.
type kubernetesConfig struct {
	Host              string
	CACert            string
	ServiceAccountJWT string

	// Of the peer's other edition: accepted while they say nothing.
	MapNamespaces            bool
	ConsulNamespacePrefix    string
	ConsulNamespaceOverrides map[string]string
}

func parseKubernetes(m *store.ACLAuthMethod) (*kubernetesConfig, error) {
	c := new(kubernetesConfig)
	if err := decodeConfig(m, c); err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) (*kubernetesConfig, error) {
		return nil, store.Errorf(store.KindInvalid, format, args...)
	}
	switch {
	case c.Host == "":
		return bad("Config.Host is required")
	case c.CACert == "":
		return bad("Config.CACert is required")
	case c.ServiceAccountJWT == "":
		return bad("Config.ServiceAccountJWT is required")
	case c.MapNamespaces || c.ConsulNamespacePrefix != "" || len(c.ConsulNamespaceOverrides) > 0:
		return bad("Config: Namespaces are a Consul Enterprise feature")
	case !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CACert)):
		return bad("error parsing kube ca cert: it is not PEM of certificates")
	}
	if p, err := url.Parse(c.Host); err != nil || p.Scheme != "https" || p.Host == "" {
		return bad("Config.Host: %q is not an HTTPS address", c.Host)
	}
	if strings.Count(c.ServiceAccountJWT, ".") != 2 {
		return bad("Config.ServiceAccountJWT is not a valid JWT")
	}
	return c, nil
}

// variables are the names that a method's identities have values for: those that
// can be put into names, and all that selectors can ask for.
func variables(m *store.ACLAuthMethod) ([]string, error) {
	if m.Type == store.MethodKubernetes {
		return []string{"serviceaccount.name", "serviceaccount.namespace", "serviceaccount.uid"}, nil
	}
	c, err := parseJWT(m)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, v := range c.ClaimMappings {
		names = append(names, "value."+v)
	}
	slices.Sort(names)
	return names, nil
}
