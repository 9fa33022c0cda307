package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"landbridge/federation/httpapi"
	"landbridge/federation/node/internal/machine"
	"landbridge/lan/gossip"
	"landbridge/store"
)

// backend is this process as the HTTP front end sees it.
type backend struct{ n *Node }

func (b backend) Self(context.Context) (*httpapi.Self, error) {
	n := b.n
	cfg := &n.cfg
	self := &httpapi.Self{
		Config: httpapi.SelfConfig{
			Datacenter: cfg.Datacenter, PrimaryDatacenter: n.primary(), NodeName: cfg.NodeName, NodeID: n.id,
			Server: cfg.Server, Version: cfg.Version, BuildDate: "1970-01-01T00:00:01Z", Release: cfg.Release,
		},
		DebugConfig: cfg.DebugConfig,
		Member:      memberOf(n.lan.Local()),
		Meta:        n.record().Meta,
		Stats: map[string]map[string]string{
			"agent":    n.agent.Stats(),
			"build":    {"prerelease": "", "revision": "", "version": cfg.Version, "version_metadata": "", "landbridge": cfg.Release},
			"runtime":  runtimeStats(),
			"serf_lan": n.lan.Stats(),
			"consul":   {"acl": cfg.ACL.word(), "server": strconv.FormatBool(cfg.Server)},
		},
	}
	if coord, err := n.lan.Coordinate(); err == nil {
		self.Coord = coord
	}
	stats := self.Stats["consul"]
	if n.srv == nil {
		stats["known_servers"] = strconv.Itoa(len(n.lanView.Servers()))
		return self, nil
	}
	_, leader := n.srv.raft.Leader()
	stats["leader_addr"] = leader
	stats["leader"] = strconv.FormatBool(n.srv.raft.IsLeader())
	stats["bootstrap"] = strconv.FormatBool(cfg.Bootstrap)
	stats["known_datacenters"] = strconv.Itoa(len(n.srv.datacenters()))
	self.Stats["raft"] = n.srv.raft.Stats()
	if n.srv.wan != nil {
		self.Stats["serf_wan"] = n.srv.wan.pool.Stats()
	}
	return self, nil
}

// primary is primary_datacenter, or our own while that is undecided.
func (c *Config) primary() string {
	if c.Primary != "" {
		return c.Primary
	}
	return c.Datacenter
}

// primary is who the primary is, as far as this agent knows.
func (n *Node) primary() string {
	if n.srv != nil {
		return n.srv.aclPrimary()
	}
	return n.cfg.primary()
}

func runtimeStats() map[string]string {
	return map[string]string{
		"arch": runtime.GOARCH, "os": runtime.GOOS, "version": runtime.Version(),
		"cpu_count": strconv.Itoa(runtime.NumCPU()), "max_procs": strconv.Itoa(runtime.GOMAXPROCS(0)),
		"goroutines": strconv.Itoa(runtime.NumGoroutine()),
	}
}

func memberOf(m gossip.Member) httpapi.Member {
	return httpapi.Member{
		Name: m.Name, Addr: m.Addr.String(), Port: m.Port, Tags: m.Tags, Status: int(m.Status),
		ProtocolMin: m.ProtocolMin, ProtocolMax: m.ProtocolMax, ProtocolCur: m.ProtocolCur,
		DelegateMin: m.DelegateMin, DelegateMax: m.DelegateMax, DelegateCur: m.DelegateCur,
	}
}

func (b backend) Members(_ context.Context, wan bool) ([]httpapi.Member, error) {
	pool := b.n.lan
	if wan {
		if b.n.srv == nil || b.n.srv.wan == nil {
			return nil, nil
		}
		pool = b.n.srv.wan.pool.Pool
	}
	members := pool.Members()
	if wan {
		b.n.srv.wan.moved.place(members)
	}
	list := make([]httpapi.Member, len(members))
	own := pool.Local().Name
	for i, m := range members {
		if list[i] = memberOf(m); m.Name == own { // first, as clients know it
			list[0], list[i] = list[i], list[0]
		}
	}
	return list, nil
}

func (b backend) Join(ctx context.Context, addr string, wan bool) error {
	if wan {
		return b.n.joinWAN(ctx, addr)
	}
	if err := b.n.joinLAN(ctx, []string{addr}); err != nil {
		return joinError(withPort([]string{addr}, b.n.cfg.Ports.SerfLAN)[0], err)
	}
	return nil
}

// joinError has the form that tools read: a line for each address that addr
// stands for.
func joinError(addr string, err error) error {
	errs := []error{err}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if list, ok := e.(interface{ Unwrap() []error }); ok {
			errs = list.Unwrap()
			break
		}
	}
	var b strings.Builder
	if len(errs) == 1 {
		b.WriteString("1 error occurred:\n")
	} else {
		fmt.Fprintf(&b, "%d errors occurred:\n", len(errs))
	}
	for _, e := range errs {
		line, ok := strings.CutPrefix(e.Error(), "failed to join ")
		if !ok {
			line = addr + ": " + line
		}
		fmt.Fprintf(&b, "\t* Failed to join %s\n", line)
	}
	b.WriteByte('\n')
	return &store.Error{Kind: store.KindInternal, Message: b.String(), Cause: err}
}

func (b backend) Leave(ctx context.Context) error { return b.n.Leave(ctx) }

func (b backend) ForceLeave(_ context.Context, node string, prune, wan bool) error {
	pool := b.n.lan
	if wan {
		if b.n.srv == nil || b.n.srv.wan == nil {
			return store.Errorf(store.KindInvalid, "this agent does not take part in the WAN")
		}
		pool = b.n.srv.wan.pool.Pool
	}
	for _, m := range pool.Members() {
		if m.Name == node {
			return pool.RemoveFailed(node, prune)
		}
	}
	return store.Errorf(store.KindInternal, "agent: No node found with name '%s'", node)
}

func (b backend) Reload(ctx context.Context) error { return b.n.Reload(ctx) }

func (b backend) MetricsJSON(context.Context) ([]byte, error) {
	if b.n.cfg.MetricsSummary == nil {
		return nil, errors.New("no metrics are collected by this agent")
	}
	v, err := b.n.cfg.MetricsSummary()
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (b backend) MetricsFollow(ctx context.Context, each func(line []byte) error) error {
	if b.n.cfg.MetricsFollow == nil {
		return errors.New("no metrics are collected by this agent")
	}
	return b.n.cfg.MetricsFollow(ctx, func(v any) error {
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return each(append(line, '\n'))
	})
}

func (b backend) Host(context.Context) (any, error) { return machine.Read(b.n.cfg.DataDir), nil }

func (b backend) Federation(ctx context.Context, token string) (any, error) {
	return b.n.federation(ctx, token)
}
