package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// CAStatus is what a server knows of the certificates in use, for operators.
type CAStatus struct {
	Datacenter   string
	Node         string // who answers
	Mode         string // "built-in" or "operator"
	FederationID string
	Primary      string // "" while undecided
	Revision     uint64 // of what all datacenters share
	// Unauthenticated is whether a join without proof was made or accepted since
	// the server started.
	Unauthenticated bool
	Roots           []CACert // the current one first
	Intermediate    CACert
	Server          *CACert // of the server that answers; nil while it has none
	Datacenters     []CADatacenter
	Revoked         []CARevocation
	Tokens          []CAToken `json:",omitempty"` // in the primary
	// Promotion is how Primary became that, Claim one that is not accepted here.
	Promotion, Claim *Promotion `json:",omitempty"`
	// Configured is primary_datacenter where a promotion overrules it.
	Configured string `json:",omitempty"`
}

// CACert is a certificate in use.
type CACert struct {
	ID       string // SHA-256 of it
	NotAfter time.Time
	Made     time.Time
	Root     string `json:",omitempty"` // id of the root it is below
	// State of a root: current, replaced (trusted until the last datacenter is
	// done), or provisional (this datacenter's own, from before it joined).
	State string `json:",omitempty"`
}

// CADatacenter is a member of the federation.
type CADatacenter struct {
	Name string
	// Done is whether all its servers have certificates below the current root; of
	// meaning in the primary, while a root is being replaced.
	Done bool
}

// CARevocation is an eviction.
type CARevocation struct {
	Node       string `json:",omitempty"` // "": the whole datacenter
	Datacenter string
	Evicted    time.Time
	Lifted     *time.Time `json:",omitempty"` // certificates from before stay refused
}

// CAToken is a join token, without its secret.
type CAToken struct {
	ID         string
	Expires    time.Time
	Datacenter string `json:",omitempty"`
	UsedBy     string `json:",omitempty"`
}

// StatusHandler answers Trust.Status on any server.
func (a *Authority) StatusHandler(context.Context, *rpc.Request) (*rpc.Response, error) {
	rec := a.cfg.State.Trust()
	if rec == nil || len(rec.Roots) == 0 {
		return nil, store.ErrNoLeader
	}
	body, err := json.Marshal(a.caStatus(rec))
	return &rpc.Response{KnownLeader: true, Index: rec.ModifyIndex, Body: body}, err
}

func (a *Authority) caStatus(rec *store.Trust) *CAStatus {
	s := &CAStatus{
		Datacenter: a.cfg.Datacenter, Node: a.cfg.Node, Mode: "built-in",
		FederationID: rec.FederationID, Primary: rec.Primary, Revision: rec.Revision, Unauthenticated: a.insecure.Load(),
		Datacenters: []CADatacenter{}, Revoked: []CARevocation{},
	}
	s.Promotion, s.Claim = shownPromotion(rec.Promotion, true), shownPromotion(rec.Claim, false)
	if rec.Promotion != nil && a.cfg.PrimaryDatacenter != rec.Primary {
		s.Configured = a.cfg.PrimaryDatacenter
	}
	if a.operator.on() {
		s.Mode = "operator"
	}
	var roots []*x509.Certificate
	for i := range rec.Roots {
		c, err := x509.ParseCertificate(rec.Roots[i].DER)
		if err != nil {
			continue // follow has said so
		}
		roots = append(roots, c)
		row := caCert(c, nil)
		switch {
		case i == 0:
			row.State = "current"
		case rec.Roots[i].Provisional:
			row.State = "provisional"
		default:
			row.State = "replaced"
		}
		s.Roots = append(s.Roots, row)
	}
	if c, err := x509.ParseCertificate(rec.Intermediate); err == nil {
		s.Intermediate = caCert(c, roots)
	}
	if c := a.certificate(); c != nil && c.Leaf != nil {
		row := caCert(c.Leaf, nil)
		if !a.operator.on() {
			row.Root = rootOf(c, roots)
		}
		s.Server = &row
	}
	for i := range rec.Datacenters {
		d := &rec.Datacenters[i]
		s.Datacenters = append(s.Datacenters, CADatacenter{d.Name, rotating(rec) <= 0 || d.Root == rec.Roots[0].ID})
	}
	for i := range rec.Revoked {
		r := &rec.Revoked[i]
		row := CARevocation{Node: r.Node, Datacenter: r.Datacenter, Evicted: time.Unix(r.Unix, 0).UTC()}
		if r.LiftedUnix != 0 {
			at := time.Unix(r.LiftedUnix, 0).UTC()
			row.Lifted = &at
		}
		s.Revoked = append(s.Revoked, row)
	}
	for i := range rec.Tokens {
		t := &rec.Tokens[i]
		s.Tokens = append(s.Tokens, CAToken{t.ID, time.Unix(t.ExpiresUnix, 0).UTC(), t.Datacenter, t.UsedBy})
	}
	return s
}

// rootOf is the id of the root that a server's certificate is below.
func rootOf(c *tls.Certificate, roots []*x509.Certificate) string {
	if len(c.Certificate) < 2 {
		return ""
	}
	inter, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		return ""
	}
	return caCert(inter, roots).Root
}

func caCert(c *x509.Certificate, roots []*x509.Certificate) CACert {
	row := CACert{ID: fingerprint(c.Raw), NotAfter: c.NotAfter.UTC(), Made: time.Unix(createdAt(c), 0).UTC()}
	for _, r := range roots {
		if c.CheckSignatureFrom(r) == nil {
			row.Root = fingerprint(r.Raw)
			break
		}
	}
	return row
}

// The bodies of requests that operators make.

// EvictBody is the body of Trust.Evict: node "" is the whole datacenter.
func EvictBody(node, datacenter string, undo bool) []byte {
	return (&evictRequest{node: node, datacenter: datacenter, undo: undo}).append(nil)
}

// RotateBody is the body of Trust.Rotate.
func RotateBody(what string) []byte { return (&rotateRequest{what}).append(nil) }

// ForgetBody is the body of Trust.Evict for a datacenter whose data is lost: its name is
// free, and its certificates stay refused.
func ForgetBody(datacenter string) []byte {
	return (&evictRequest{datacenter: datacenter, forget: true}).append(nil)
}

// PromoteBody is the body of Trust.Promote.
func PromoteBody(force bool) []byte { return (&promoteRequest{force}).append(nil) }

// FollowBody is the body of Trust.Follow.
func FollowBody(dc string) []byte { return (&followRequest{dc}).append(nil) }

// TokenBody is the body of Trust.Token; zero values leave the choice to the server.
func TokenBody(datacenter string, life time.Duration, addresses []string) []byte {
	seconds := uint64(0)
	if life > 0 {
		seconds = uint64((life + time.Second - 1) / time.Second)
	}
	return (&tokenRequest{datacenter: datacenter, seconds: seconds, addresses: addresses}).append(nil)
}
