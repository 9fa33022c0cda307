package consensus

import (
	"cmp"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's followers look whether their leader was heard at random moments, on
// average one and a half time-outs apart, and give a pre-vote only when they have
// found it silent themselves: the last one to look decides. Here each looks as soon
// as the time-out is over.
//
// They do so one after the other, in the order of their ids and a pause apart, which
// is as long as heartbeats to two of them may be: two who stand for election in the
// same moment would each vote for themselves. The first one has its pre-vote refused
// by those who have not looked yet; the one that completes a majority wins, or has
// the others ask again (preVotes) if their logs are longer.

// absenceLoop has Raft look at its leader's silence when it is over the limit.
func (n *Node) absenceLoop() {
	heartbeat, _ := Timings(n.cfg.Multiplier)
	pause := HeartbeatPause(n.cfg.Multiplier)
	r := n.raft.Load()
	for {
		changed := n.LeaderChanged()
		last := r.LastContact()
		turn := n.turnAfter(r)
		due := last.Add(heartbeat + time.Millisecond + time.Duration(turn)*pause)
		if turn < 0 {
			due = time.Now().Add(heartbeat) // it may get a vote
		}
		select {
		case <-time.After(time.Until(due)):
		case <-changed:
			continue
		case <-n.quit:
			return
		}
		if turn < 0 || !r.LastContact().Equal(last) {
			continue
		}
		if time.Since(due) > pause {
			// It is us who did not run: what was sent meanwhile comes in now.
			select {
			case <-time.After(pause):
			case <-n.quit:
				return
			}
			if !r.LastContact().Equal(last) {
				continue
			}
		}
		n.campaign()
		select {
		case <-changed:
		case <-time.After(heartbeat): // Raft has heard it after all
		case <-n.quit:
			return
		}
	}
}

// turnAfter is this follower's place among the voters that would have to replace the
// leader; -1 if there is no leader, or it does not vote.
func (n *Node) turnAfter(r *raft.Raft) int {
	_, leader := r.LeaderWithID()
	if leader == "" || r.State() != raft.Follower {
		return -1
	}
	turn, votes := 0, false
	for _, s := range n.configuration().Servers {
		switch self := raft.ServerID(n.cfg.NodeID); {
		case s.Suffrage != raft.Voter, s.ID == leader:
		case s.ID == self:
			votes = true
		case s.ID < self:
			turn++
		}
	}
	if !votes {
		return -1
	}
	return turn
}

// preVotes passes on that servers ask us for pre-votes.
type preVotes struct {
	mu    sync.Mutex
	asked map[raft.ServerID]chan raft.RequestPreVoteRequest // one slot each; of those who are awaited
}

// note is called by Raft's main loop.
func (p *preVotes) note(req raft.RequestPreVoteRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.asked[raft.ServerID(req.ID)]; c != nil {
		select {
		case c <- req:
		default:
		}
	}
}

// await returns where requests of a server arrive until forget.
func (p *preVotes) await(id raft.ServerID) chan raft.RequestPreVoteRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil {
		p.asked = make(map[raft.ServerID]chan raft.RequestPreVoteRequest)
	}
	p.asked[id] = make(chan raft.RequestPreVoteRequest, 1)
	return p.asked[id]
}

func (p *preVotes) forget(id raft.ServerID, c chan raft.RequestPreVoteRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked[id] == c {
		delete(p.asked, id)
	}
}

// RequestPreVote asks a server that has refused once more when it asks us, and so
// has no leader any more: at once, or if it may win, since its log is no shorter than
// ours, a little later. Raft does not wait for refusals.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	asked := t.preVotes.await(id)
	defer t.preVotes.forget(id, asked)
	timeout := 2 * t.lease.length // that of elections: Raft asks anew
	over := time.After(timeout)
	for {
		*resp = raft.RequestPreVoteResponse{}
		err := t.Transport.(raft.WithPreVote).RequestPreVote(id, target, args, resp)
		if err != nil || resp.Granted || resp.Term > args.Term {
			return err
		}
		var hold time.Duration
		select {
		case req := <-asked:
			if cmp.Or(cmp.Compare(req.LastLogTerm, args.LastLogTerm), cmp.Compare(req.LastLogIndex, args.LastLogIndex)) >= 0 {
				hold = timeout / 5
			}
		case <-over:
			return nil
		case <-t.quit:
			return nil
		}
		select {
		case <-time.After(hold):
		case <-t.quit:
			return nil
		}
		if !t.stands(args.Term) {
			return nil
		}
	}
}
