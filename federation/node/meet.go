package node

import (
	"context"
	"sync"
	"time"

	"landbridge/federation"
	"landbridge/lan/gossip"
)

const (
	// meetWait gathers the servers of a datacenter that one exchange of states made
	// known together.
	meetWait = 10 * time.Millisecond
	// meetMost bounds the connections that are opened before somebody needs them.
	meetMost = 8
	// meetTime bounds such a dial.
	meetTime = 2 * time.Second
)

// meet sees to it that a datacenter which joined can be asked by all of ours, and at
// once: who hears of it first tells the others here, since gossip takes its time, and
// opens the connections that the first requests would wait for. What nobody uses of
// these ends by itself. It must not block.
func (s *server) meet(srv federation.Server) {
	w := s.wan
	if srv.Status != gossip.Alive {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.met[srv.Datacenter] {
		return
	}
	if w.met == nil {
		w.met = make(map[string]bool)
	}
	w.met[srv.Datacenter] = true
	if len(w.met) > meetMost {
		return // a large federation that we came to: on demand, as ever
	}
	dc := srv.Datacenter
	w.meeting.Go(func() {
		ctx, cancel := context.WithTimeout(w.life, meetTime)
		defer cancel()
		select {
		case <-time.After(meetWait):
		case <-ctx.Done():
			return
		}
		var dials sync.WaitGroup
		servers := w.dir.Servers(dc)
		for _, srv := range servers[:min(len(servers), meetMost)] {
			dials.Go(func() {
				// Should it fail, whoever asks first finds out why.
				_, _ = w.rpc.Get(ctx, srv.Addr.String(), srv.Name)
			})
		}
		s.pushJoin(ctx)
		dials.Wait()
	})
}
