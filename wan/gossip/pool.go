package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"landbridge/lan/gossip"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultPort completes addresses to join that have no port.
const DefaultPort = 8302

// leftTimeout is how long a server that left is still listed. serf looks every 15 s,
// so it is gone within a minute. Datacenters come and go for good: who is listed
// should be there.
const leftTimeout = 30 * time.Second

// greet covers the servers of a few datacenters.
const greet = 8

// Config of the WAN pool. Required: Node, Datacenter, Transport, Logger and
// Registerer.
type Config struct {
	Node       string // without the datacenter
	ID         string
	Datacenter string
	Tags       map[string]string
	// Transport is wan/transport's Endpoint.Gossip.
	Transport memberlist.Transport
	// Advertise is where other datacenters reach this server; zero parts are the
	// transport's.
	Advertise netip.AddrPort
	// Profile replaces the timings of Profile() if it is not zero.
	Profile          gossip.Profile
	AllowedCIDRs     []netip.Prefix
	SnapshotFile     string
	RejoinAfterLeave bool
	ReconnectTimeout time.Duration
	// DisableCoordinates leaves distances to the transport's round trip times.
	DisableCoordinates bool
	// Admit is asked about each member, e.g. whether the federation knows its
	// datacenter; an error keeps it out. It must not call the Pool.
	Admit func(m gossip.Member, datacenter string) error

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Pool is the WAN pool.
type Pool struct{ *gossip.Pool }

// Profile returns the WAN timings.
func Profile() gossip.Profile { return gossip.WAN() }

// New checks the configuration; Start begins to gossip.
func New(cfg Config) (*Pool, error) {
	var errs []error
	if cfg.Node == "" {
		errs = append(errs, errors.New("wan gossip: node name is empty"))
	}
	if cfg.Datacenter == "" || strings.Contains(cfg.Datacenter, ".") {
		errs = append(errs, fmt.Errorf("wan gossip: datacenter %q must be a name without dots", cfg.Datacenter))
	}
	if cfg.Transport == nil {
		errs = append(errs, errors.New("wan gossip: Transport is not set"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	profile := cfg.Profile
	if profile == (gossip.Profile{}) {
		profile = Profile()
	}
	p, err := gossip.New(gossip.Config{
		Scope:              "wan",
		Name:               Name(cfg.Node, cfg.Datacenter),
		ID:                 cfg.ID,
		Datacenter:         cfg.Datacenter,
		AnyDatacenter:      true,
		Tags:               cfg.Tags,
		Profile:            profile,
		Transport:          cfg.Transport,
		Advertise:          cfg.Advertise,
		DefaultPort:        DefaultPort,
		AllowedCIDRs:       cfg.AllowedCIDRs,
		SnapshotFile:       cfg.SnapshotFile,
		RejoinAfterLeave:   cfg.RejoinAfterLeave,
		Greet:              greet,
		ReconnectTimeout:   cfg.ReconnectTimeout,
		LeftTimeout:        leftTimeout,
		DisableCoordinates: cfg.DisableCoordinates,
		Admit:              admit(cfg.Admit),
		Logger:             cfg.Logger,
		Registerer:         cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	return &Pool{p}, nil
}

func admit(hook func(gossip.Member, string) error) func(gossip.Member) error {
	return func(m gossip.Member) error {
		_, dc, ok := SplitName(m.Name)
		if !ok {
			return errors.New("its name is not <node>.<datacenter>")
		}
		if tag := m.Tags["dc"]; tag != dc {
			return fmt.Errorf("its name says datacenter %q and its tags %q", dc, tag)
		}
		if hook != nil {
			return hook(m, dc)
		}
		return nil
	}
}

// Name returns a server's name in the pool.
func Name(node, datacenter string) string { return node + "." + datacenter }

// SplitName takes a name apart at its last dot: node names may have dots,
// datacenters may not.
func SplitName(name string) (node, datacenter string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 || i == len(name)-1 {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}
