package node

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"landbridge/lan/gossip"
	wangossip "landbridge/wan/gossip"
)

// moved are the servers of the WAN that have another address than its pool says.
// memberlist keeps a member's address until it has declared the member dead, and
// one that comes back elsewhere never is: it answers probes over the connections
// that it opens itself. So a claim of another address is looked into: it counts if
// the server proves its name there and does not where it was.
type moved struct {
	ctx    context.Context // ends with stop
	cancel context.CancelFunc

	mu    sync.Mutex
	work  sync.WaitGroup // looks; Add under mu, before stop
	now   map[string]netip.AddrPort
	asked map[string]time.Time // when a claim was looked into
}

const (
	// claimPause is the least time between two looks at one server's claims: those
	// who have not heard yet repeat the old address.
	claimPause = 5 * time.Second
	// claimsMost bounds the servers whose claims are looked into in that time.
	claimsMost = 64
)

func (v *moved) start() { v.ctx, v.cancel = context.WithCancel(context.Background()) }

// stop ends the looks under way and waits for them: dials, which end with ctx.
func (v *moved) stop(context.Context) error {
	v.mu.Lock()
	v.cancel()
	v.mu.Unlock()
	v.work.Wait()
	return nil
}

// where returns a server's address if the pool does not have it.
func (v *moved) where(name string) (netip.AddrPort, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	to, ok := v.now[name]
	return to, ok
}

// place puts the addresses in place of the pool's, and forgets those that the pool
// has by now, or of servers that left it.
func (v *moved) place(members []gossip.Member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.now) == 0 {
		return
	}
	here := make(map[string]bool, len(v.now))
	for i := range members {
		m := &members[i]
		to, ok := v.now[m.Name]
		if !ok || m.AddrPort() == to || m.Status == gossip.Left {
			continue
		}
		here[m.Name] = true
		m.Addr, m.Port = to.Addr(), to.Port()
	}
	for name := range v.now {
		if !here[name] {
			delete(v.now, name)
		}
	}
}

// look has f look into a claim, unless somebody did so just now.
func (v *moved) look(name string, now time.Time, f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for n, at := range v.asked {
		if now.Sub(at) >= claimPause {
			delete(v.asked, n)
		}
	}
	if _, ok := v.asked[name]; ok || len(v.asked) >= claimsMost || v.ctx.Err() != nil {
		return
	}
	if v.asked == nil {
		v.asked = map[string]time.Time{}
	}
	v.asked[name] = now
	v.work.Go(f)
}

// claimed is told each address that somebody says a server has. It must not block,
// nor call the pool.
func (s *server) claimed(name string, to netip.AddrPort) {
	w := s.wan
	_, dc, _ := wangossip.SplitName(name)
	for _, srv := range w.dir.Snapshot()[dc].Servers {
		if srv.Name != name || srv.Addr == to || srv.Status == gossip.Left {
			continue
		}
		w.moved.look(name, time.Now(), func() { s.lookAt(w.moved.ctx, name, srv.Addr, to) })
	}
}

// lookAt finds out whether a server is at to, and not at from any more.
func (s *server) lookAt(ctx context.Context, name string, from, to netip.AddrPort) {
	w := s.wan
	if w.isAt(ctx, from, name) || ctx.Err() != nil || !w.isAt(ctx, to, name) {
		return
	}
	w.moved.mu.Lock()
	if w.moved.now == nil {
		w.moved.now = map[string]netip.AddrPort{}
	}
	w.moved.now[name] = to
	w.moved.mu.Unlock()
	s.n.log.Info("server has another address", "peer", name, "addr", to.String(), "was", from.String())
	w.dir.Changed()
}

// isAt says whether a server proves its name at an address.
func (w *wan) isAt(ctx context.Context, addr netip.AddrPort, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, wanDialTimeout)
	defer cancel()
	sess, err := w.endpoint.DialRPC(ctx, addr, name)
	if err != nil {
		return false
	}
	_ = sess.CloseWithCause(errLooked)
	return true
}
