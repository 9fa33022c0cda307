package consensus

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// restoreTime bounds a restore whose caller has no deadline.
const restoreTime = 10 * time.Minute

var errTermOver = errors.New("leadership changed before the restore began; nothing was changed")

// Restore replaces the state of all servers by a stream that FSM.Restore reads. It
// works on the leader only. open is called when every command given before is
// applied, and none is until Restore returns; it gives the stream and its size.
//
// The caller has verified the stream: a state machine that cannot read it ends
// the process. If open or the stream returns an error, nothing has changed. When
// Restore returns nil, a quorum has the new state.
func (n *Node) Restore(ctx context.Context, open func() (io.Reader, int64, error)) error {
	return n.wait(ctx, "restore", func(r *raft.Raft, enqueue time.Duration) raft.Future {
		return failed{n.restore(r, enqueue, open)}
	})
}

func (n *Node) restore(r *raft.Raft, enqueue time.Duration, open func() (io.Reader, int64, error)) error {
	select {
	case n.gate <- struct{}{}:
	case <-n.quit:
		return noLeader(errStopping)
	}
	defer func() { <-n.gate }()
	term := r.CurrentTerm()
	if n.ready.Load() != term {
		return noLeader(errNotReady)
	}
	if err := r.Barrier(enqueue).Error(); err != nil {
		return err
	}
	stream, size, err := open()
	if err != nil {
		return err
	}
	// Raft reads the stream in its main loop, so the term cannot change while it
	// does; what open looked at is the last word if it has not changed before.
	first := readerFunc(func(p []byte) (int, error) {
		if r.CurrentTerm() != term {
			return 0, errTermOver
		}
		return stream.Read(p)
	})
	read := false
	err = r.Restore(&raft.SnapshotMeta{Version: 1, Size: size}, readerFunc(func(p []byte) (int, error) {
		read = true
		return first(p)
	}), restoreTime)
	if read && (errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrEnqueueTimeout)) {
		return maybeApplied(err) // lost between our own disk and the others
	}
	return err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
