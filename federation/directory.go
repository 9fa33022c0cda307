package federation

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/lan/gossip"
)

// Server is a federation server as the directory knows it.
type Server struct {
	Name       string // "<node>.<dc>"
	Node       string
	Datacenter string
	Addr       netip.AddrPort // its UDP port as this datacenter reaches it
	Status     gossip.Status  // hearsay
	Relay      bool           // it says that it carries calls between others (RelayTag)
}

// RelayTag is the WAN tag, "1", of a server that carries calls between others.
const RelayTag = "lb_relay"

// Datacenter is one datacenter with its servers, by name.
type Datacenter struct {
	Name    string
	Servers []Server
}

// Config is what the directory follows.
type Config struct {
	Datacenter string // our own
	// Members and Subscribe are the WAN pool's.
	Members   func() []gossip.Member
	Subscribe func() (<-chan gossip.Event, func())
	// Distance estimates the round trip to a server by name.
	Distance func(server string) (time.Duration, bool)
	// OnServer is told of each server of the WAN pool, our own datacenter's
	// included, when it appears or changes. Called from Run; it must not block.
	OnServer func(Server)
	// Via is the relay that calls to a server go through now, "" if none.
	Via func(server string) string
	// Paths samples the open connections with peers; nil: nothing is known of loss
	// and of the last contact.
	Paths      func() []PathSample
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// penalty is how long a server that did not answer is tried last.
const penalty = 10 * time.Second

// Directory answers who can be asked. Its reading methods may be called
// concurrently, before Run as well.
type Directory struct {
	cfg  Config
	snap atomic.Pointer[map[string]Datacenter]
	// version counts the snapshots: it changes after snap.
	version atomic.Uint64

	again chan struct{} // one slot: Members has changed without an event

	links  links
	mu     sync.Mutex
	failed map[string]time.Time // server -> when it last did not answer
}

// New returns a directory that knows no one yet.
func New(cfg Config) *Directory {
	d := &Directory{cfg: cfg, failed: map[string]time.Time{}, again: make(chan struct{}, 1)}
	d.snap.Store(&map[string]Datacenter{})
	cfg.Registerer.MustRegister(&collector{d})
	return d
}

// Run follows the WAN pool until ctx is done.
func (d *Directory) Run(ctx context.Context) error {
	events, cancel := d.cfg.Subscribe()
	defer cancel()
	d.refresh()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.refresh() // a pool that was left knows nobody
			return ctx.Err()
		case <-d.again:
			d.refresh()
		case now := <-tick.C:
			d.sample(now)
		case _, ok := <-events:
			d.refresh()
			if !ok {
				return nil
			}
		}
	}
}

// Changed says that Members gives another list although no event told so: members
// were evicted, or let in again.
func (d *Directory) Changed() {
	select {
	case d.again <- struct{}{}:
	default:
	}
}

// refresh rebuilds the snapshot from the pool and says what changed.
func (d *Directory) refresh() {
	next := map[string]Datacenter{}
	for _, m := range d.cfg.Members() {
		s, ok := serverOf(m)
		if !ok {
			continue
		}
		dc := next[s.Datacenter]
		dc.Name = s.Datacenter
		dc.Servers = append(dc.Servers, s)
		next[s.Datacenter] = dc
	}
	prev := *d.snap.Load()
	for name, dc := range next {
		slices.SortFunc(dc.Servers, func(a, b Server) int { return cmp.Compare(a.Name, b.Name) })
		if _, ok := prev[name]; !ok && name != d.cfg.Datacenter {
			d.cfg.Logger.Info("datacenter joined", "peer_dc", name, "servers", len(dc.Servers))
		}
	}
	for name := range prev {
		if _, ok := next[name]; !ok {
			d.cfg.Logger.Info("datacenter is gone", "peer_dc", name)
		}
	}
	d.snap.Store(&next)
	d.version.Add(1)
	if d.cfg.OnServer == nil {
		return
	}
	for name, dc := range next {
		for _, s := range dc.Servers {
			if !slices.Contains(prev[name].Servers, s) {
				d.cfg.OnServer(s)
			}
		}
	}
}

// serverOf reads a WAN member: its name is <node>.<dc>, its tags must agree.
func serverOf(m gossip.Member) (Server, bool) {
	dot := strings.LastIndexByte(m.Name, '.')
	if dot <= 0 || m.Tags["role"] != "consul" || m.Tags["dc"] != m.Name[dot+1:] {
		return Server{}, false
	}
	return Server{Name: m.Name, Node: m.Name[:dot], Datacenter: m.Name[dot+1:], Addr: m.AddrPort(), Status: m.Status, Relay: m.Tags[RelayTag] == "1"}, true
}

// Known says whether a datacenter has or had servers that did not leave.
func (d *Directory) Known(dc string) bool {
	if dc == d.cfg.Datacenter {
		return true
	}
	for _, s := range (*d.snap.Load())[dc].Servers {
		if s.Status != gossip.Left {
			return true
		}
	}
	return false
}

// Servers returns a datacenter's servers in the order to try them: those that are
// alive and answered lately, at random; then those that did not answer; then
// those that gossip calls failed. Servers that left are not among them.
func (d *Directory) Servers(dc string) []Server {
	all := (*d.snap.Load())[dc].Servers
	list := make([]Server, 0, len(all))
	rank := make(map[string]int, len(all))
	now := time.Now()
	d.mu.Lock()
	for _, s := range all {
		if s.Status == gossip.Left {
			continue
		}
		r := 0
		if at, ok := d.failed[s.Name]; ok && now.Sub(at) < penalty {
			r = 1
		}
		if s.Status != gossip.Alive {
			r += 2
		}
		rank[s.Name] = r
		list = append(list, s)
	}
	d.mu.Unlock()
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b Server) int { return cmp.Compare(rank[a.Name], rank[b.Name]) })
	return list
}

// Report tells how a call to a server ended: err is nil if the server answered,
// whatever it answered.
func (d *Directory) Report(server string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.failed, server)
		return
	}
	now := time.Now()
	for name, at := range d.failed {
		if now.Sub(at) >= penalty {
			delete(d.failed, name)
		}
	}
	d.failed[server] = now
}

// Loss is the share of our packets to a server that were lost in the last seconds, 0 if
// too few were sent to tell. Acknowledgements are packets, too, and never found lost.
func (d *Directory) Loss(server string) float64 { return d.links.lossLately(server) }

// Answering reports whether a server did not fail a call within the penalty.
func (d *Directory) Answering(server string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.failed[server]
	return !ok || time.Since(at) >= penalty
}

// Snapshot returns the datacenters of the WAN pool, by name. It must not be
// changed.
func (d *Directory) Snapshot() map[string]Datacenter { return *d.snap.Load() }

// Version changes whenever Snapshot does.
func (d *Directory) Version() uint64 { return d.version.Load() }

// Datacenters returns all names but of those whose servers all left, our own first, then by the median round trip to
// their servers, unknown distances last, ties by name.
func (d *Directory) Datacenters() []string {
	type entry struct {
		name  string
		rtt   time.Duration
		known bool
	}
	var list []entry
	for name, dc := range *d.snap.Load() {
		if name == d.cfg.Datacenter || !d.Known(name) {
			continue
		}
		rtt, ok := d.median(dc)
		list = append(list, entry{name, rtt, ok})
	}
	slices.SortFunc(list, func(a, b entry) int {
		if a.known != b.known {
			if a.known {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.rtt, b.rtt), cmp.Compare(a.name, b.name))
	})
	names := []string{d.cfg.Datacenter}
	for _, e := range list {
		names = append(names, e.name)
	}
	return names
}

func (d *Directory) median(dc Datacenter) (time.Duration, bool) {
	var rtts []time.Duration
	for _, s := range dc.Servers {
		if rtt, ok := d.cfg.Distance(s.Name); ok {
			rtts = append(rtts, rtt)
		}
	}
	if len(rtts) == 0 {
		return 0, false
	}
	slices.Sort(rtts)
	return rtts[len(rtts)/2], true
}
