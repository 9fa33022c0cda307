package gossip

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/hashicorp/serf/serf"
)

const (
	// userEventLimit bounds name and payload of an event, as clients know it.
	userEventLimit = 512
	// userEventRoom is what serf's own envelope may add.
	userEventRoom = 128
	// heldEvents bounds the events that wait for the end of a join.
	heldEvents = 1024
)

// UserEvent sends a message to all members, this one too: best effort, at most
// once each. Members hand it to their Config.OnUserEvent.
func (p *Pool) UserEvent(name string, payload []byte) error {
	if len(name)+len(payload) > userEventLimit {
		return fmt.Errorf("user event exceeds configured limit of %d bytes before encoding", userEventLimit)
	}
	s := p.running()
	if s == nil {
		return ErrNotRunning
	}
	return s.UserEvent(name, payload, false)
}

// newcomer keeps events away that were fired before this agent came into the
// pool: a member it joins hands its recent ones over with its state. While the
// first join is under way nobody can tell old from new, so events wait for its
// end, when the pool's logical time is known.
type newcomer struct {
	mu    sync.Mutex
	joins int // under way
	first uint64
	held  []serf.UserEvent
}

// begin is called before a join that makes this agent a newcomer.
func (n *newcomer) begin() {
	n.mu.Lock()
	n.joins++
	n.mu.Unlock()
}

// end is called after it, with the pool's logical time of events, and returns
// those to deliver.
func (n *newcomer) end(now uint64) (due []serf.UserEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.first = max(n.first, now)
	if n.joins--; n.joins > 0 {
		return nil
	}
	for _, e := range n.held {
		if uint64(e.LTime) >= n.first {
			due = append(due, e)
		}
	}
	n.held = nil
	return due
}

// admits says whether an event is to be delivered now.
func (n *newcomer) admits(e serf.UserEvent) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.joins > 0 {
		if len(n.held) < heldEvents {
			n.held = append(n.held, e)
		}
		return false
	}
	return uint64(e.LTime) >= n.first
}

func (p *Pool) deliver(e serf.UserEvent) {
	if p.cfg.OnUserEvent != nil {
		p.cfg.OnUserEvent(e.Name, e.Payload, uint64(e.LTime))
	}
}

// alone says whether this agent knows no other member.
func alone(s *serf.Serf) bool { return s.NumNodes() <= 1 }

func eventTime(s *serf.Serf) uint64 {
	n, err := strconv.ParseUint(s.Stats()["event_time"], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
