package replica

import (
	"context"
	"errors"

	"landbridge/store/consensus"
)

// Leadership is what a source has to know of its Raft group.
type Leadership interface {
	// CheckLease is nil if this server leads and a quorum confirmed it less than a
	// lease ago.
	CheckLease() error
	// VerifyLeader asks a quorum.
	VerifyLeader(ctx context.Context) error
}

// Surely runs read while this server leads: the lease is checked before and after,
// since a process that was frozen between check and read must not answer.
func Surely(ctx context.Context, raft Leadership, read func()) error {
	check := func() error {
		err := raft.CheckLease()
		if errors.Is(err, consensus.ErrLease) {
			err = raft.VerifyLeader(ctx)
		}
		return err
	}
	if err := check(); err != nil {
		return err
	}
	read()
	return check()
}
