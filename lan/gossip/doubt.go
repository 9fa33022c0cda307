package gossip

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// Timings of doubt.
const (
	doubtFirst = 500 * time.Millisecond // gossip settles it meanwhile, mostly
	doubtEach  = 20 * time.Millisecond  // so much more for each member, at most: not all ask at once
	doubtMost  = 30 * time.Second       // between two questions
	doubtLook  = time.Minute            // for members that take long to leave
)

// doubt asks members that leave, and do not go, whether they do. serf keeps the word
// that somebody leaves for five minutes if it does not know him, or has pruned him, and
// who comes back meanwhile is leaving from the start. An exchange of states tells him
// the word's time as if he had joined then. So he has nothing to refute, and the word
// stands until he joins somebody by himself; but others join him, too.
func (p *Pool) doubt(ctx context.Context, s *serf.Serf) {
	pause := doubtLook
	seen := map[string]bool{} // leaving when looked at last
	t := time.NewTimer(pause)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-p.doubts:
			if pause = doubtFirst + rand.N(doubtEach*time.Duration(s.NumNodes())); len(seen) == 0 {
				t.Reset(pause)
			}
			for _, m := range p.Members() {
				seen[m.Name] = seen[m.Name] || m.Status == Leaving
			}
			continue
		case <-ctx.Done():
			return
		}
		leaving := map[string]bool{}
		for _, m := range p.Members() {
			if m.Status != Leaving || m.Name == p.cfg.Name {
				continue
			}
			if leaving[m.Name] = true; seen[m.Name] {
				p.log.Info("member is said to leave and is still here: it is asked", "node", m.Name)
				p.ask(s, m)
			}
			if ctx.Err() != nil {
				return
			}
		}
		seen = leaving
		if pause = min(2*pause, doubtMost); len(seen) == 0 {
			pause = doubtLook
		}
		t.Reset(pause)
	}
}

// ask exchanges states with a member, which tells us if it has said that it stays,
// and else tells it alone that it leaves, later than anything it knows: it refutes
// that to all, unless it is so.
func (p *Pool) ask(s *serf.Serf, m Member) {
	addr := memberlist.Address{Addr: m.AddrPort().String(), Name: m.Name}
	if _, err := s.Memberlist().Join([]string{addr.Name + "/" + addr.Addr}); err != nil {
		p.log.Debug("member not asked whether it leaves", "node", m.Name, "err", err)
		return
	}
	if p.byName()[m.Name].Status != Leaving {
		return
	}
	now, err := strconv.ParseUint(s.Stats()["member_time"], 10, 64)
	if err != nil {
		return
	}
	if err := s.Memberlist().SendToAddress(addr, leaveIntent(m.Name, now)); err != nil {
		p.log.Debug("member not asked whether it leaves", "node", m.Name, "err", err)
	}
}

// leaveIntent is serf's message that a member leaves at a logical time.
func leaveIntent(node string, at uint64) []byte {
	msg := []byte{0} // serf's type of it
	var body []byte
	// Encoding to memory does not fail.
	_ = codec.NewEncoderBytes(&body, &codec.MsgpackHandle{}).Encode(struct {
		LTime uint64
		Node  string
		Prune bool
	}{LTime: at, Node: node})
	return append(msg, body...)
}
