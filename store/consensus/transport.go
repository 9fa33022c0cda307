package consensus

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transport is the caller's, with the lease listening. Only plain AppendEntries
// are heard, not the pipeline: heartbeats go that way ten times per time-out,
// apart from the disk, and hearing the pipeline would cost every entry one more
// hop between goroutines.
//
// What is not a heartbeat waits while a server is silent: Raft would double its
// pauses after each attempt, up to ten seconds, and a server that is back would
// wait that long for what it missed. Heartbeats, whose pauses stay below half a
// time-out, find that it is back.
type transport struct {
	raft.Transport
	addr  raft.ServerAddress
	lease *lease
	term  func() uint64
	// leads reports whether this server leads in term, with id in its group.
	leads func(term uint64, id raft.ServerID) bool
	// durable is up to where our own log is.
	durable func() uint64
	quit    <-chan struct{}
	silence silence
	// stands reports whether this server asks for pre-votes for term.
	stands   func(term uint64) bool
	preVotes preVotes
}

func (t *transport) LocalAddr() raft.ServerAddress { return t.addr }

func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if !isHeartbeat(args) {
		t.untilHeard(id, args.Term)
	}
	t.capCommit(args)
	sent := time.Now()
	term := args.Term
	err := t.Transport.AppendEntries(id, target, args, resp)
	t.silence.note(id, err)
	// An answer of our term is one of a server that follows us, also if it
	// needs older entries first.
	if err == nil && resp.Term == term {
		t.lease.ack(id, term, sent, resp.LastLog)
	}
	return err
}

// capCommit keeps others from hearing that an entry is committed which our own log,
// that Raft counts, could still lose. Requests are written to only where that is so:
// Raft sends a heartbeat again while an earlier one may still be read.
func (t *transport) capCommit(args *raft.AppendEntriesRequest) {
	if d := t.durable(); args.LeaderCommitIndex > d {
		args.LeaderCommitIndex = d
	}
}

// isHeartbeat tells Raft's heartbeats from requests that carry entries or say
// where the log stands.
func isHeartbeat(args *raft.AppendEntriesRequest) bool {
	return len(args.Entries) == 0 && args.PrevLogEntry == 0 && args.LeaderCommitIndex == 0
}

func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	t.untilHeard(id, args.Term)
	err := t.Transport.InstallSnapshot(id, target, args, resp, data)
	t.silence.note(id, err)
	return err
}

func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	t.lease.transfer(t.term())
	return t.Transport.TimeoutNow(id, target, args, resp)
}

func (t *transport) Close() error {
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// untilHeard returns at once unless the server did not answer last. Else it waits
// for its next answer, as long as there is a reason to.
func (t *transport) untilHeard(id raft.ServerID, term uint64) {
	heard := t.silence.of(id)
	if heard == nil {
		return
	}
	tick := time.NewTicker(t.lease.length)
	defer tick.Stop()
	for t.leads(term, id) {
		select {
		case <-heard:
			return
		case <-t.quit:
			return
		case <-tick.C:
		}
	}
}

// silence knows which servers did not answer last.
type silence struct {
	mu    sync.Mutex
	heard map[raft.ServerID]chan struct{} // of those; closed at the next answer
}

func (s *silence) note(id raft.ServerID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, silent := s.heard[id]
	switch {
	case err == nil && silent:
		delete(s.heard, id)
		close(c)
	case err != nil && !silent:
		if s.heard == nil {
			s.heard = make(map[raft.ServerID]chan struct{})
		}
		s.heard[id] = make(chan struct{})
	}
}

// of returns what is closed at the server's next answer, nil if it answered last.
func (s *silence) of(id raft.ServerID) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, silent := s.heard[id]; silent {
		return c
	}
	return nil
}
