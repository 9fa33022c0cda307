package leader

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"landbridge/store"
	"landbridge/store/consensus"
	"landbridge/store/state"
)

// Consensus is this server's part in the Raft group; *consensus.Node is one.
type Consensus interface {
	Apply(ctx context.Context, cmd store.Command) (store.Result, error)
	IsLeader() bool
	// Leadership gives the latest change; true again means a new term.
	Leadership() <-chan bool
	Raft() *raft.Raft
	// Servers is the latest configuration of the Raft group.
	Servers() []consensus.Server
	// Acknowledged tells when a server last acknowledged this leader, in which term,
	// and where its log ended then; not ok if it did not in this term.
	Acknowledged(id string) (ago time.Duration, term, last uint64, ok bool)
	// RecoveryDue is how many recoveries the state has to count, 0 if there was none
	// that is not in it; RecoveryDone is called when it is.
	RecoveryDue() uint64
	RecoveryDone() error
}

// Task is run by each new leader.
type Task struct {
	Name string
	// Run establishes something and returns. An error is logged, and Run called
	// again after a pause, before any later task. ctx ends with the leadership.
	Run func(ctx context.Context) error
}

// Config is what a Leader needs. All but Tasks, Loops, ACL, ForceLeave, Autopilot,
// HeartbeatPause, Bootstrap, Logger and Registerer is required.
type Config struct {
	NodeID     string
	Node       string
	Datacenter string
	// Members returns all members of the LAN pool, this server too.
	Members func() []Member
	// MembersChanged has one slot: Members may have changed.
	MembersChanged <-chan struct{}
	Consensus      Consensus
	State          *state.Store
	// ServerStatus asks a server of this datacenter, this one too.
	ServerStatus func(ctx context.Context, m Member) (*store.ServerStatus, error)
	// ForceLeave tells gossip that a failed server is gone.
	ForceLeave func(name string) error
	// Autopilot is the configuration of a new cluster; zero means the defaults.
	Autopilot store.AutopilotConfig
	// HeartbeatPause is how long Raft's leader may leave a follower without a word.
	HeartbeatPause time.Duration
	// Bootstrap: this server bootstraps alone; another such one is kept out.
	Bootstrap bool
	Tasks     []Task
	// ACL is nil where access control is off.
	ACL *ACL
	// Loops run beside all else until leadership ends, which ctx says; one that
	// returns earlier is begun again after a pause.
	Loops []Task

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

const (
	reconcileInterval = time.Minute
	applyTimeout      = 30 * time.Second
	parallelWrites    = 32
	statusTimeout     = 2 * time.Second
	// reapGrace is how long a node must be missing from gossip before it is
	// removed, if this server never saw it as a member: a leader that has just
	// started may not know all members.
	reapGrace = 90 * time.Second
)

// DefaultAutopilot is a new cluster's configuration (spec config.md 4).
func DefaultAutopilot() store.AutopilotConfig {
	return store.AutopilotConfig{
		CleanupDeadServers:      true,
		LastContactThreshold:    int64(200 * time.Millisecond),
		MaxTrailingLogs:         250,
		ServerStabilizationTime: int64(10 * time.Second),
	}
}

// Validate reports everything that is missing.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("leader: "+what+" is required"))
		}
	}
	need(c.NodeID != "", "NodeID")
	need(c.Node != "", "Node")
	need(c.Members != nil, "Members")
	need(c.MembersChanged != nil, "MembersChanged")
	need(c.Consensus != nil, "Consensus")
	need(c.State != nil, "State")
	need(c.ServerStatus != nil, "ServerStatus")
	return errors.Join(errs...)
}

func randUpTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
