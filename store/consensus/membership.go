package consensus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
)

// Server is a member of the Raft configuration.
type Server struct {
	ID      string
	Address string
	Voter   bool
}

var errRaftGone = errors.New("raft stopped by itself")

func errNoServer(id string) error {
	return store.Errorf(store.KindInvalid, "no server with id %q in the Raft configuration", id)
}

// failed is a future that is over.
type failed struct{ err error }

func (f failed) Error() error { return f.err }

// configuration returns the latest configuration, committed or not.
func (n *Node) configuration() raft.Configuration {
	r := n.raft.Load()
	if r == nil {
		return raft.Configuration{}
	}
	return r.GetConfiguration().Configuration()
}

// Servers returns the latest configuration, which may not be committed yet.
func (n *Node) Servers() []Server {
	return serversOf(n.configuration())
}

// Progress returns, by server id, the index of the last entry in each log as far
// as this server knows: on a leader those of all who answer, as of their last
// heartbeat; else its own only.
func (n *Node) Progress() map[string]uint64 {
	r := n.raft.Load()
	if r == nil {
		return nil
	}
	known := map[string]uint64{n.cfg.NodeID: r.LastIndex()}
	if r.State() == raft.Leader {
		for id, last := range n.lease.progress(r.CurrentTerm()) {
			known[string(id)] = last
		}
	}
	return known
}

// Acknowledged tells how long ago the server acknowledged us as leader of the
// current term, and where its log ended then.
func (n *Node) Acknowledged(id string) (ago time.Duration, term, last uint64, ok bool) {
	r := n.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return 0, 0, 0, false
	}
	term = r.CurrentTerm()
	sent, last, ok := n.lease.acknowledged(raft.ServerID(id), term)
	return elapsed(sent, time.Now()), term, last, ok
}

// Configuration is Servers with the index of its log entry; 0 before Start.
func (n *Node) Configuration() (_ []Server, index uint64) {
	r := n.raft.Load()
	if r == nil {
		return nil, 0
	}
	// The future that gives the configuration does not know its index.
	return n.Servers(), n.stat("latest_configuration_index")
}

// LastTerm returns the term of the last entry in this server's log.
func (n *Node) LastTerm() uint64 { return n.stat("last_log_term") }

// stat returns a number that Raft tells in no other way; 0 before Start.
func (n *Node) stat(name string) uint64 {
	v, err := strconv.ParseUint(n.Stats()[name], 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// Bootstrap makes the first configuration of a new cluster. Each server may be
// given the same list; a server that has state refuses with KindConflict. The
// first of the list campaigns at once instead of after its time-out.
func (n *Node) Bootstrap(servers []Server) error {
	r := n.raft.Load()
	if r == nil || n.stopping() {
		return noLeader(errStopping)
	}
	err := r.BootstrapCluster(configurationOf(servers)).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return store.Errorf(store.KindConflict, "bootstrap: this server already belongs to a cluster: %w", err)
	}
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	n.refreshAlone()
	signal(n.confChange)
	if len(servers) > 0 && servers[0].ID == n.cfg.NodeID {
		n.campaign()
	}
	return nil
}

// AddVoter adds a server with a vote, or gives one to a member, or changes its
// address. Like the following ones it works on the leader only.
func (n *Node) AddVoter(ctx context.Context, id, address string) error {
	return n.wait(ctx, "add voter "+id, func(r *raft.Raft, d time.Duration) raft.Future {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, d)
	})
}

// AddNonvoter adds a server that receives the log without a vote.
func (n *Node) AddNonvoter(ctx context.Context, id, address string) error {
	return n.wait(ctx, "add non-voter "+id, func(r *raft.Raft, d time.Duration) raft.Future {
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, d)
	})
}

// DemoteVoter takes a server's vote away.
func (n *Node) DemoteVoter(ctx context.Context, id string) error {
	return n.wait(ctx, "demote "+id, func(r *raft.Raft, d time.Duration) raft.Future {
		return r.DemoteVoter(raft.ServerID(id), 0, d)
	})
}

// RemoveServer removes a member. A leader that removes itself steps down when
// the others have committed that.
func (n *Node) RemoveServer(ctx context.Context, id string) error {
	return n.wait(ctx, "remove server "+id, func(r *raft.Raft, d time.Duration) raft.Future {
		return r.RemoveServer(raft.ServerID(id), 0, d)
	})
}

// Stats returns Raft's own view, for operators; nil before Start.
func (n *Node) Stats() map[string]string {
	r := n.raft.Load()
	if r == nil {
		return nil
	}
	return r.Stats()
}
