package federationtest

import (
	"github.com/hashicorp/raft"

	"landbridge/store/raftlog"
)

// disk is where a host's Raft keeps its state. It outlives the agent.
type disk struct {
	log   *raft.InmemStore
	snaps *raft.InmemSnapshotStore
}

func newDisk() *disk { return &disk{raft.NewInmemStore(), raft.NewInmemSnapshotStore()} }

// stores are on the simulated disk, but for the files beside the log.
func (d *disk) stores(dir, raftID string) (*raftlog.Stores, error) {
	return raftlog.Beside(dir, raftID, d.log, d.log, d.snaps)
}

// image is the disk as it was when the power went: an agent that is still being
// torn down writes to the other copy. Snapshots are shared, being of committed
// entries only.
func (d *disk) image() (*disk, error) {
	c := &disk{raft.NewInmemStore(), d.snaps}
	// The log first: a term is durable before the first entry of it.
	first, err := d.log.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := d.log.LastIndex()
	if err != nil {
		return nil, err
	}
	for i := first; i > 0 && i <= last; i++ {
		entry := new(raft.Log)
		if err := d.log.GetLog(i, entry); err != nil {
			return nil, err
		}
		if err := c.log.StoreLog(entry); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		if v, err := d.log.GetUint64([]byte(key)); err == nil {
			if err := c.log.SetUint64([]byte(key), v); err != nil {
				return nil, err
			}
		}
	}
	if v, err := d.log.Get([]byte("LastVoteCand")); err == nil {
		if err := c.log.Set([]byte("LastVoteCand"), v); err != nil {
			return nil, err
		}
	}
	return c, nil
}
