package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// Profile holds the timings of a pool.
type Profile struct {
	GossipNodes    int
	GossipInterval time.Duration
	ProbeInterval  time.Duration
	ProbeTimeout   time.Duration
	RetransmitMult int
	SuspicionMult  int

	// PushPullInterval is the time between exchanges of the full state with a
	// random member; StreamTimeout bounds one.
	PushPullInterval time.Duration
	StreamTimeout    time.Duration
	// PacketSize bounds a packet that gossip fills up.
	PacketSize int
	// LeavePropagate is how long a leaving member stays up so that the others
	// hear of it before they miss it.
	LeavePropagate time.Duration
}

// LAN is for the agents of one datacenter. With suspicion_mult 3 a dead agent is
// known after 3 to 7 s in small datacenters, and a second sooner where servers probe
// every 750 ms (docs/decisions/0023).
func LAN() Profile {
	return Profile{
		GossipNodes: 3, GossipInterval: 200 * time.Millisecond,
		ProbeInterval: time.Second, ProbeTimeout: 500 * time.Millisecond,
		RetransmitMult: 4, SuspicionMult: 3,
		PushPullInterval: 30 * time.Second, StreamTimeout: 10 * time.Second,
		PacketSize: 1400, LeavePropagate: time.Second,
	}
}

// WAN is for the servers of all datacenters, over a transport whose packets are
// QUIC datagrams: 1,140 bytes fit one on any path QUIC runs on.
func WAN() Profile {
	return Profile{
		GossipNodes: 3, GossipInterval: 500 * time.Millisecond,
		ProbeInterval: 5 * time.Second, ProbeTimeout: 3 * time.Second,
		RetransmitMult: 4, SuspicionMult: 6,
		PushPullInterval: 60 * time.Second, StreamTimeout: 30 * time.Second,
		PacketSize: 1140, LeavePropagate: time.Second,
	}
}

// Config of a Pool. Required: Name, Datacenter, Profile, Logger, Registerer, and
// Transport or Bind.
type Config struct {
	// Scope is the pool's name in metrics and logs: "lan" (default) or "wan".
	Scope string
	Name  string // unique in the pool
	ID    string // the node's UUID; published as tag id
	// Datacenter is published as tag dc.
	Datacenter string
	// AnyDatacenter accepts members of other datacenters too (the WAN pool).
	AnyDatacenter bool
	Tags          map[string]string
	Profile       Profile

	// Transport replaces UDP and TCP on Bind. Start hands it to memberlist, which
	// shuts it down.
	Transport memberlist.Transport
	Bind      netip.AddrPort // port 0: any
	// Advertise is what others reach us at; zero parts are taken from Bind or the
	// Transport.
	Advertise netip.AddrPort
	// DefaultPort completes addresses to join that have none; 0: our own port.
	DefaultPort uint16
	// AllowedCIDRs: members with other addresses are refused; nil allows all.
	AllowedCIDRs []netip.Prefix

	// Key encrypts the pool (16, 24 or 32 bytes) unless the keyring file exists,
	// which then wins. KeyringFile "" keeps the keys in memory only.
	Key         []byte
	KeyringFile string
	// AllowPlainIncoming and PlainOutgoing are the two steps by which a running
	// pool without keys gets some (encrypt_verify_incoming and _outgoing = false).
	AllowPlainIncoming bool
	PlainOutgoing      bool

	// SnapshotFile remembers the members, so that a restarted agent finds the
	// pool by itself; "" for none. After a leave it does so only with
	// RejoinAfterLeave. serf writes it, and may keep its last lines back for as long
	// as nothing changes: SnapshotFile + ".members", where the servers and a few others
	// are, is there after a kill, too.
	SnapshotFile     string
	RejoinAfterLeave bool
	// Sparse does without serf's, whose place the other file takes, and costs nothing
	// while the members stay. Events that were fired while the agent was down do not
	// reach it when it is back.
	Sparse bool
	// Greet is with how many of the first members heard of the full state is
	// exchanged, beside those joined.
	Greet int
	// ReconnectTimeout is how long a failed member is kept: 72 h.
	ReconnectTimeout time.Duration
	// LeftTimeout is how long a member that left is still listed: 24 h.
	LeftTimeout        time.Duration
	DisableCoordinates bool

	// OnUserEvent is called with each user event of the pool, our own too, those
	// excepted that are older than our joining it. It must not block for long.
	OnUserEvent func(name string, payload []byte, ltime uint64)

	// Admit is asked about each member heard of, after the checks of this
	// package; an error keeps it out, and unless it is ErrKeptOut, also the pool that
	// has it. It must not call the Pool.
	Admit func(Member) error
	// AdmitPool is asked about each living member of the other side when two
	// pools become one; an error keeps them apart. It must not call the Pool.
	AdmitPool func(Member) error

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Validate reports all that is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(validName(c.Name), "node name %q must have 1 to %d printable characters without spaces and slashes", c.Name, maxName)
	need(c.Datacenter != "", "datacenter is empty")
	need(c.Transport != nil || c.Bind.IsValid(), "neither Transport nor Bind is set")
	need(c.Scope == "" || c.Scope == "lan" || c.Scope == "wan", "scope %q is neither lan nor wan", c.Scope)
	p := c.Profile
	need(p.GossipNodes > 0, "gossip_nodes must be positive")
	need(p.GossipInterval > 0 && p.ProbeInterval > 0 && p.ProbeTimeout > 0, "gossip and probe intervals and probe_timeout must be positive")
	need(p.ProbeTimeout <= p.ProbeInterval, "probe_timeout %s is longer than probe_interval %s", p.ProbeTimeout, p.ProbeInterval)
	need(p.RetransmitMult > 0 && p.SuspicionMult > 0, "retransmit_mult and suspicion_mult must be positive")
	need(p.PushPullInterval >= 0 && p.StreamTimeout > 0 && p.PacketSize >= minPacketSize, "PushPullInterval, StreamTimeout or PacketSize is out of range")
	need(c.Logger != nil, "Logger is not set")
	need(c.Registerer != nil, "Registerer is not set")
	if len(c.Key) > 0 {
		if err := memberlist.ValidateKey(c.Key); err != nil {
			errs = append(errs, fmt.Errorf("encrypt has invalid key: %w", err))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%s gossip: %w", c.scope(), errors.Join(errs...))
	}
	return nil
}

const (
	maxName       = 128
	minPacketSize = 512
)

func (c *Config) scope() string {
	if c.Scope == "" {
		return "lan"
	}
	return c.Scope
}
