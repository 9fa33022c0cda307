package consensus

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
)

// fullLog refuses entries while full is set.
type fullLog struct {
	*raft.InmemStore
	full    atomic.Bool
	refused atomic.Int64
}

func (l *fullLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l *fullLog) StoreLogs(es []*raft.Log) error {
	if err := l.Writable(); err != nil {
		l.refused.Add(1)
		return err
	}
	return l.InmemStore.StoreLogs(es)
}

func (l *fullLog) Writable() error {
	if l.full.Load() {
		return syscall.ENOSPC
	}
	return nil
}

func TestFullDiskOfLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.bootstrap()
		l := c.leader(3 * time.Second)
		mustApply(t, l, "a")
		disk := l.stores.Log.(*fullLog)
		disk.full.Store(true)
		_, err := l.Apply(t.Context(), put("b"))
		wantKind(t, err, store.KindInternal)
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "write refused") {
			t.Errorf("error %v, want one that names the full disk", err)
		}
		for l.IsLeader() {
			<-l.LeaderChanged()
		}
		second := c.leader(5 * time.Second)
		if second == l {
			t.Fatal("the server with the full disk leads again")
		}
		mustApply(t, second, "c")
		time.Sleep(10 * time.Second)
		if !second.IsLeader() {
			t.Error("the server with the full disk unseated the leader")
		}
		disk.full.Store(false)
		time.Sleep(10 * time.Second)
		if got := l.fsm.all(); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("with room again: %v, want a c", got)
		}
	})
}

func TestFullDiskAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.bootstrap()
		s := c.leader(time.Second)
		disk := s.stores.Log.(*fullLog)
		disk.full.Store(true)
		_, err := s.Apply(t.Context(), put("a"))
		wantKind(t, err, store.KindInternal)
		time.Sleep(10 * time.Second)
		disk.full.Store(false)
		c.leader(5 * time.Second)
		mustApply(t, s, "b")
		if got := s.fsm.all(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("applied %v, want b", got)
		}
	})
}
