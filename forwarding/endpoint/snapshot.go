package endpoint

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/archive"
	"landbridge/store/fsm"
	"landbridge/store/state"
)

// Snapshots is what saving and restoring the state needs beyond reading it.
type Snapshots struct {
	// Describe fills in the part of an archive's description that is Raft's.
	Describe func(m *archive.Meta)
	// Term is the current one.
	Term func() uint64
	// Restore is consensus.Node's.
	Restore func(ctx context.Context, open func() (io.Reader, int64, error)) error
	// NewID makes the id of a new history.
	NewID func() string
	// Dir takes the files of a restore under way; "" is the system's place for
	// such. They have no names, so nothing is left behind.
	Dir string
	// Restored is called on the leader when the state is another one; may be nil.
	Restored func()
}

// snapshots are the methods that save and restore the state.
type snapshots struct {
	Snapshots
	set  *Set
	turn chan struct{} // held by the one restore under way
}

// HandleSnapshots sets the methods that save and restore the state.
func (s *Set) HandleSnapshots(cfg Snapshots) {
	sn := &snapshots{Snapshots: cfg, set: s, turn: make(chan struct{}, 1)}
	s.Handle(rpc.SnapshotSave, sn.save)
	s.Handle(rpc.SnapshotRestore, sn.restore)
}

// save answers with an archive of the state at one moment. Like any read it is the
// leader's, or with the age that its header tells. Taking it costs nothing; it is
// encoded while the reader takes it.
func (sn *snapshots) save(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	s := sn.set
	_, taken, err := once(ctx, s, req, nil, func(st *state.Store, _ *state.Watch, _ *store.Query) (store.Index, *state.Snapshot) {
		t := st.Snapshot()
		return t.Header().Index, t
	})
	if err != nil {
		return nil, err
	}
	index := taken.Header().Index
	meta := archive.NewMeta(sn.Term(), index, time.Now())
	sn.Describe(&meta)
	resp := s.response(req, index)
	resp.Stream = &saved{state: taken.Public(), meta: meta}
	return resp, nil
}

// saved is an archive that is made as it is written.
type saved struct {
	state *state.Snapshot
	meta  archive.Meta
}

func (a *saved) WriteTo(w io.Writer) (int64, error) {
	c := &countingWriter{w: w}
	err := archive.Write(c, a.meta, func(w io.Writer) error { return fsm.WriteSnapshot(w, a.state) })
	return c.n, err
}

func (a *saved) Close() error { return nil }

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// restore replaces the datacenter's state by an archive's. The whole of it is read
// and checked before anything changes. What says whom the cluster trusts, and its
// id, stay; the history id is a new one, and no index goes back.
func (sn *snapshots) restore(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	s := sn.set
	if req.Upload == nil {
		return nil, store.Errorf(store.KindInvalid, "Snapshot.Restore: there is no archive")
	}
	if !s.raft.IsLeader() {
		return nil, store.ErrNoLeader
	}
	select {
	case sn.turn <- struct{}{}:
	default:
		return nil, store.Errorf(store.KindConflict, "another restore is under way")
	}
	defer func() { <-sn.turn }()
	began := time.Now()
	spool, err := newSpool(sn.Dir)
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	meta, err := sn.receive(req.Upload, spool)
	if err != nil {
		return nil, err
	}
	// A state machine that met a record it cannot place would have to stop, on
	// every server, so all of it is put together here first and dropped.
	if _, err := fsm.ReadSnapshot(bufio.NewReaderSize(spool, spoolBuffer)); err != nil {
		return nil, refused(err)
	}
	next, err := newSpool(sn.Dir)
	if err != nil {
		return nil, err
	}
	defer next.Close()
	var header state.Header
	err = sn.Restore(ctx, func() (io.Reader, int64, error) {
		if err := spool.rewind(); err != nil {
			return nil, 0, err
		}
		w := bufio.NewWriterSize(next, spoolBuffer)
		var err error
		header, err = fsm.Rewrite(w, bufio.NewReaderSize(spool, spoolBuffer), s.state.Snapshot(), sn.NewID())
		if err == nil {
			err = w.Flush()
		}
		if err != nil {
			return nil, 0, refused(err)
		}
		size, err := next.Seek(0, io.SeekCurrent)
		if err == nil {
			err = next.rewind()
		}
		return bufio.NewReaderSize(next, spoolBuffer), size, err
	})
	if err != nil {
		return nil, err
	}
	s.cfg.Logger.Warn("the state was replaced by a snapshot", "snapshot", meta.ID, "bytes", meta.Size,
		"index", uint64(header.Index), "history", header.Cluster.HistoryID, "took", time.Since(began).Round(time.Millisecond),
		slog.String("peer", req.Peer))
	if sn.Restored != nil {
		sn.Restored()
	}
	return &rpc.Response{Index: header.Index, KnownLeader: true}, nil
}

// receive reads an archive to its end, checks it and leaves its state in spool.
func (sn *snapshots) receive(r io.Reader, spool *spool) (archive.Meta, error) {
	a, err := archive.Open(bufio.NewReaderSize(r, spoolBuffer))
	if err != nil {
		return archive.Meta{}, refused(err)
	}
	// The state is here twice for a moment, and then once more in Raft's snapshot.
	const room = 64 << 20
	if free, ok := freeSpace(spool.dir); ok && uint64(a.Meta.Size) > (max(free, room)-room)/3 {
		return a.Meta, store.Errorf(store.KindInvalid, "the snapshot's state of %d bytes needs three times that on disk; %s has %d bytes free", a.Meta.Size, spool.dir, free)
	}
	w := bufio.NewWriterSize(spool, spoolBuffer)
	if _, err := io.Copy(w, a); err != nil {
		return a.Meta, refused(err)
	}
	if err := a.Verify(); err != nil {
		return a.Meta, refused(err)
	}
	if err := w.Flush(); err != nil {
		return a.Meta, refused(err)
	}
	return a.Meta, spool.rewind()
}

// refused gives an error about an archive a kind, unless it has one.
func refused(err error) error {
	var e *store.Error
	if errors.As(err, &e) {
		return err
	}
	return store.Errorf(store.KindInvalid, "%w", err)
}

const spoolBuffer = 64 << 10

// spool is a file without a name: it is gone with the process at the latest.
type spool struct {
	*os.File
	dir string
}

func newSpool(dir string) (*spool, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := os.CreateTemp(dir, "snapshot-*.tmp") // 0600: it holds tokens
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "no file to keep the snapshot in: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, store.Errorf(store.KindInternal, "a file for the snapshot: %w", err)
	}
	return &spool{f, dir}, nil
}

func (s *spool) rewind() error {
	_, err := s.Seek(0, io.SeekStart)
	return err
}
