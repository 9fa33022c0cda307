package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// ALPN protocols of the WAN socket, told apart by ServerTLS and ClientTLS.
const (
	GossipALPN = "landbridge-gossip/1"
	RPCALPN    = "landbridge-rpc/1"
	EnrollALPN = "landbridge-enroll/1"
	RelayALPN  = "landbridge-relay/1"
)

// EnrollConn is one bidirectional stream over a TLS 1.3 connection that
// negotiated EnrollALPN. wan/transport's satisfies it; the first bytes are the
// dialing side's. Close ends the connection and may drop what is under way, so
// the side that received the last message closes first.
type EnrollConn interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	Close() error
	SetDeadline(t time.Time) error
	RemoteAddr() net.Addr
	// ExportKeyingMaterial is RFC 8446 7.5's exporter of this connection.
	ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error)
	// PeerCertificates is what the other side presented, not verified.
	PeerCertificates() []*x509.Certificate
}

// State is what this package reads of the datacenter's Raft state.
type State interface {
	// Trust returns the record, nil while there is none. It is shared: read only.
	Trust() *store.Trust
	// ClusterID is this datacenter's own id, "" before its first leader.
	ClusterID() string
	Cluster() store.Cluster
	// ACLReplica is how far the primary's ACLs were copied, Index that of the state.
	ACLReplica() store.ACLReplica
	Index() store.Index
	// Watch follows the record until closed.
	Watch() Watch
}

// Watch follows the trust record: Trust reads it and arms C in one step, so that
// no change between the two is missed. A Watch belongs to one goroutine.
type Watch interface {
	Trust() *store.Trust
	// C is buffered and coalesced.
	C() <-chan struct{}
	Close()
}

// Config of an Authority. Required: Node, Datacenter, State, Apply, IsLeader,
// Call, Dial.
type Config struct {
	Node              string
	Datacenter        string
	PrimaryDatacenter string // primary_datacenter, "" while undecided
	Domain            string // dns domain in certificate names; default "consul"
	// FederationID is the trust domain of a root made here; default: ClusterID.
	// (connect.ca_config.cluster_id)
	FederationID string
	// DataDir holds federation/server.pem; "" keeps the certificate in memory.
	DataDir string

	// GossipKey returns the primary key of the LAN ring, nil when there is none.
	GossipKey func() []byte
	// EnrollByKey accepts joins proven by the gossip key (SetEnrollByKey).
	EnrollByKey bool
	// AllowUnauthenticated accepts and makes joins without proof.
	AllowUnauthenticated bool
	// LoopbackSocket says that our own WAN socket is bound to a loopback address.
	LoopbackSocket bool
	// Operator certificates, which replace the built-in authority on the WAN.
	Operator Operator

	State    State
	Apply    func(ctx context.Context, cmd store.Command) (store.Result, error) // leader only
	IsLeader func() bool
	Call     rpc.Doer // runs a request where it belongs: our leader, the primary's
	// Dial opens an enrolment. On a server that does not take part in the WAN it
	// fails with ErrNotFederated.
	Dial func(ctx context.Context, addr string) (EnrollConn, error)

	// Servers returns the names of the servers of this datacenter, ours included.
	// Optional: the leader then signs for these only, and drops a replaced root as
	// soon as all of them have new certificates instead of when the last one
	// signed below it must have expired.
	Servers func() []string
	// Addresses returns where servers of this datacenter accept joins, for tokens.
	// Optional.
	Addresses func() []string
	// Ask sends a request to the server of this datacenter that gossip knows by a name.
	// Optional: without it, whoever names a server is taken for it, and an evicted leader
	// hears no more from other datacenters.
	Ask func(ctx context.Context, node string, req *rpc.Request) (*rpc.Response, error)
	// HandOver has one of the named servers of this datacenter lead in place of this one,
	// which was evicted. Optional: without it, this one goes on.
	HandOver func(ctx context.Context, to []string) error
	// Consents is nil if the token with an accessor may change the primary, by the ACLs
	// of this datacenter, and has the secret that proves accepts. Without it, where there
	// are no ACLs, whatever a member signed is accepted.
	Consents func(ctx context.Context, accessor string, proves func(secret string) bool) error
	// Changed is called after this server's certificate or the roots it trusts
	// changed, from Run's goroutine; it must not block. Optional.
	Changed func()

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// ErrNotFederated says that this server does not take part in the WAN.
var ErrNotFederated = store.Errorf(store.KindInvalid, "this server does not take part in the WAN (federation.enabled = false, or ports.serf_wan = -1)")

// Operator names the files of certificates that an operator issues
// (tls.internal_rpc). The certificate must be valid for
// <node>.server.<datacenter>.<domain>.
type Operator struct {
	CAFile, CAPath    string
	CertFile, KeyFile string
}

func (o Operator) set() bool { return (o.CAFile != "" || o.CAPath != "") && o.CertFile != "" }

// Validate reports everything that is missing or wrong.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("trust: %s is required", what))
		}
	}
	need(c.State != nil, "State")
	need(c.Apply != nil, "Apply")
	need(c.IsLeader != nil, "IsLeader")
	need(c.Call != nil, "Call")
	need(c.Dial != nil, "Dial")
	if err := validNode(c.Node); err != nil {
		errs = append(errs, err)
	}
	if err := validDatacenter(c.Datacenter); err != nil {
		errs = append(errs, err)
	}
	if c.PrimaryDatacenter != "" {
		if err := validDatacenter(c.PrimaryDatacenter); err != nil {
			errs = append(errs, fmt.Errorf("primary_datacenter: %w", err))
		}
	}
	if c.FederationID != "" && !dnsLabels(c.FederationID) {
		errs = append(errs, fmt.Errorf("connect.ca_config.cluster_id %q cannot be part of a DNS name", c.FederationID))
	}
	return errors.Join(errs...)
}
