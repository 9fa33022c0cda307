package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"landbridge/store"
)

// ErrLease is the cause when this server leads as far as it knows but cannot
// tell it without asking: test with errors.Is, and use VerifyLeader.
var ErrLease = errors.New("no quorum confirmed leadership within the lease")

var (
	errNotReady = errors.New("this leader has not yet applied what earlier leaders committed")
	errStopping = errors.New("this server is stopping")
	errStalled  = errors.New("this server's disk does not take the log; another server is asked to lead")
)

// noLeader is store.ErrNoLeader, whose words clients match, with a cause for
// those who ask here.
func noLeader(cause error) error {
	return &store.Error{Kind: store.KindNoLeader, Message: store.ErrNoLeader.Message, Cause: cause}
}

func maybeApplied(cause error) error {
	return &store.Error{Kind: store.KindMaybeApplied, Message: "leadership lost while committing log", Cause: cause}
}

// applyError gives the error of a Raft future of a write its kind.
func applyError(err error) error {
	var has *store.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &has):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrCantBootstrap):
		return noLeader(err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return maybeApplied(err)
	case errors.Is(err, raft.ErrAbortedByRestore):
		return &store.Error{Kind: store.KindConflict, Message: "a snapshot was restored meanwhile; the write is not in it", Cause: err}
	}
	return &store.Error{Kind: store.KindInternal, Message: "write refused: " + err.Error(), Cause: err}
}

// notSent is the error of a caller who left before its command was sent.
func notSent(ctx context.Context) error {
	return &store.Error{Kind: store.KindTimeout,
		Message: fmt.Sprintf("write not sent: %v", context.Cause(ctx)), Cause: ctx.Err()}
}

// leftWaiting is the error of a caller who left after its command was sent.
func leftWaiting(ctx context.Context) error {
	return &store.Error{Kind: store.KindMaybeApplied,
		Message: fmt.Sprintf("stopped waiting for a write that was sent; it may be applied: %v", context.Cause(ctx)), Cause: ctx.Err()}
}
