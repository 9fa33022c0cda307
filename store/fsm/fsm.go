package fsm

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
	"landbridge/store/state"
)

// FSM is a raft.FSM over a state.Store.
type FSM struct {
	state  *state.Store
	logger *slog.Logger
	cmds   []store.Command // reused by Apply
}

// New returns the state machine of st. Nobody else may call st.Apply.
func New(st *state.Store, logger *slog.Logger) *FSM {
	return &FSM{state: st, logger: logger}
}

// State returns the store it feeds.
func (f *FSM) State() *state.Store { return f.state }

// Apply applies one log entry and returns []store.Result. It panics on an entry
// that this version can not apply in full, before it applies any of it.
func (f *FSM) Apply(entry *raft.Log) any {
	if entry.Type != raft.LogCommand {
		return nil
	}
	cmds, err := DecodeBatch(f.cmds[:0], entry.Data)
	if err != nil {
		panic(fmt.Sprintf("log entry %d of term %d: %v. Its log is damaged, or a newer landbridge wrote it: "+
			"start that version on this server, or let it forget its state (landbridge operator raft forget -yes) and join again",
			entry.Index, entry.Term, err))
	}
	for i := range cmds {
		if !cmds[i].Ignorable && !state.Known(cmds[i].Kind) {
			panic(fmt.Sprintf("log entry %d of term %d holds a command of kind %d, which this version of landbridge does not know "+
				"and may not skip: a newer version wrote it. Start that version, or a later one, on this server",
				entry.Index, entry.Term, cmds[i].Kind))
		}
	}
	results := make([]store.Result, len(cmds))
	f.state.Apply(cmds, results)
	clear(cmds) // let go of the entry's bytes
	f.cmds = cmds[:0]
	return results
}

// Snapshot returns the state as it is now, at once.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	return &snapshot{f.state.Snapshot()}, nil
}

type snapshot struct{ state *state.Snapshot }

// Persist writes the stream.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := WriteSnapshot(sink, s.state); err != nil {
		return fmt.Errorf("write snapshot: %w", joinCancel(err, sink.Cancel()))
	}
	return sink.Close()
}

func joinCancel(err, cancel error) error {
	if cancel == nil {
		return err
	}
	return fmt.Errorf("%w (and giving it up: %v)", err, cancel)
}

// Release does nothing: a snapshot holds memory only.
func (s *snapshot) Release() {}

// Restore replaces the state by the stream's. After an error the state is as it
// was.
func (f *FSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	began := time.Now()
	im, err := ReadSnapshot(r)
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	f.state.Restore(im)
	f.logger.Info("state restored from a snapshot", "index", uint64(f.state.Index()),
		"cluster", f.state.ClusterID(), "took", time.Since(began))
	return nil
}
