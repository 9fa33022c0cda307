package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"landbridge/store"
	"landbridge/store/fsm"
	"landbridge/store/raftlog"
)

// Config of a Node. NodeID, FSM, Stores, Transport and Fatal are required.
type Config struct {
	NodeID  string // Raft server id
	Address string // under which the others reach our Raft; "" = the transport's own

	// FSM is the state machine. Its Apply returns []store.Result, one for each
	// command of the entry.
	FSM raft.FSM
	// Recoveries tells how often the state machine's cluster was recovered
	// (store.Cluster); nil: nobody counts.
	Recoveries func() uint64
	// EncodeBatch appends commands in the form that FSM.Apply reads;
	// nil means fsm.AppendBatch.
	EncodeBatch func(b []byte, cmds []store.Command) []byte

	// CommandVersion tells the version of commands (store.CommandVersion) that a
	// server of the group understands, by its Raft id; 0: it is not known. nil:
	// everybody understands everything. Called for commands newer than version 1.
	CommandVersion func(id string) int

	Stores    *raftlog.Stores
	Transport raft.Transport // must also be a raft.WithPreVote

	// Multiplier is performance.raft_multiplier, 1 to 10; 0 means 5.
	Multiplier int

	Snapshots SnapshotConfig

	Logger     *slog.Logger
	Registerer prometheus.Registerer

	// Fatal is called if Raft stops by itself: the process must end.
	Fatal func(error)
}

// SnapshotConfig says when the log is cut. Zero values mean the defaults.
type SnapshotConfig struct {
	Threshold    uint64        // entries since the last snapshot; 16384
	Interval     time.Duration // between looks at Threshold; 30 s
	TrailingLogs uint64        // entries kept for followers that are behind; 10240
}

const (
	defaultMultiplier = 5

	// Entries that hold up to 512 commands make counts of entries a poor
	// measure of disk and of replay time, so these bound what the counts in
	// SnapshotConfig allow.
	snapshotBytes = 64 << 20
	trailingBytes = 64 << 20
	minTrailing   = 128
)

func (s SnapshotConfig) withDefaults() SnapshotConfig {
	if s.Threshold == 0 {
		s.Threshold = 16384
	}
	if s.Interval == 0 {
		s.Interval = 30 * time.Second
	}
	if s.TrailingLogs == 0 {
		s.TrailingLogs = 10240
	}
	return s
}

// Timings returns the heartbeat and election time-out, and the lease, for a
// multiplier (0 means 5).
func Timings(multiplier int) (heartbeat, lease time.Duration) {
	if multiplier == 0 {
		multiplier = defaultMultiplier
	}
	heartbeat = max(500*time.Millisecond, time.Duration(multiplier)*150*time.Millisecond)
	return heartbeat, heartbeat / 2
}

// HeartbeatPause returns how long a leader may leave a follower without a word:
// Raft sends heartbeats every tenth of the time-out, or up to twice as far apart.
func HeartbeatPause(multiplier int) time.Duration {
	heartbeat, _ := Timings(multiplier)
	return heartbeat / 5
}

func (c *Config) validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(c.NodeID != "", "NodeID is required")
	need(c.FSM != nil, "FSM is required")
	if c.EncodeBatch == nil {
		c.EncodeBatch = fsm.AppendBatch
	}
	need(c.Stores != nil, "Stores are required")
	need(c.Fatal != nil, "Fatal is required")
	need(c.Transport != nil, "Transport is required")
	if c.Transport != nil {
		_, ok := c.Transport.(raft.WithPreVote)
		need(ok, "Transport does not support pre-vote")
		if c.Address == "" {
			c.Address = string(c.Transport.LocalAddr())
		}
	}
	need(c.Multiplier >= 0 && c.Multiplier <= 10,
		fmt.Sprintf("performance.raft_multiplier cannot be %d. Must be between 1 and 10", c.Multiplier))
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	c.Snapshots = c.Snapshots.withDefaults()
	return errors.Join(errs...)
}

func (c *Config) raftConfig() *raft.Config {
	heartbeat, lease := Timings(c.Multiplier)
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.NodeID)
	rc.HeartbeatTimeout = heartbeat
	rc.ElectionTimeout = heartbeat
	rc.LeaderLeaseTimeout = lease
	// Entries are groups of up to 256 KB: 32 of them are already an 8 MB
	// request to a follower that is behind.
	rc.MaxAppendEntries = 32
	rc.SnapshotThreshold = c.Snapshots.Threshold
	rc.SnapshotInterval = c.Snapshots.Interval
	rc.TrailingLogs = c.Snapshots.TrailingLogs
	// A removed server stays a follower without a vote and says so, instead
	// of a process whose Raft is gone.
	rc.ShutdownOnRemove = false
	rc.NoLegacyTelemetry = true
	rc.Logger = newRaftLogger(c.Logger)
	return rc
}
