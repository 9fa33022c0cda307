package consensus

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Alive asks Raft's main loop whether it goes round, and returns when it has
// answered. A loop that the disk holds, or that takes a snapshot in, counts as
// alive: both may take minutes, and starting again would only repeat them. ctx
// bounds the question.
func (n *Node) Alive(ctx context.Context) error {
	r := n.raft.Load()
	if r == nil || n.stopping() {
		return nil
	}
	answered := make(chan struct{})
	go func() { // ends with the answer, at the latest when Raft stops
		defer close(answered)
		// The main loop answers in every role; what it says does not matter here.
		_ = r.VerifyLeader().Error()
	}()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-answered:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			if n.log.held() > 0 || n.copying.Load() > 0 {
				return nil
			}
		}
	}
}

// watchedSnapshots counts the snapshots that are being written.
type watchedSnapshots struct {
	raft.SnapshotStore
	open *atomic.Int32
}

func (w watchedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := w.SnapshotStore.Create(version, index, term, conf, confIndex, trans)
	if err != nil {
		return nil, err
	}
	w.open.Add(1)
	return &watchedSink{SnapshotSink: sink, open: w.open}, nil
}

type watchedSink struct {
	raft.SnapshotSink
	open  *atomic.Int32
	ended atomic.Bool // Raft may cancel what it has closed
}

func (s *watchedSink) end() {
	if !s.ended.Swap(true) {
		s.open.Add(-1)
	}
}

func (s *watchedSink) Close() error {
	defer s.end()
	return s.SnapshotSink.Close()
}

func (s *watchedSink) Cancel() error {
	defer s.end()
	return s.SnapshotSink.Cancel()
}

// Restore takes a snapshot into the state machine; Raft's main loop waits for it.
func (f *hookedFSM) Restore(r io.ReadCloser) error {
	f.n.copying.Add(1)
	defer f.n.copying.Add(-1)
	return f.FSM.Restore(r)
}
