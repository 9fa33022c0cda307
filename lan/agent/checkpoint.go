package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

const (
	// materialiseAfter is when files follow the journal: making one costs more CPU
	// than the rest of a registration, and what is gone by then, or registered
	// again, costs none or one.
	materialiseAfter = 15 * time.Second
	checkpointRetry  = 10 * time.Second
	// syncsAtOnce: file systems join the commits of syncs that come together.
	syncsAtOnce = 16
)

func (d *disk) notify() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run writes files after the journal until ctx ends, and then leaves all in
// files and no journal.
func (d *disk) run(ctx context.Context, log *slog.Logger) {
	if d.dir == "" {
		return
	}
	failing := false
	for ctx.Err() == nil {
		select {
		case <-d.wake:
		case <-ctx.Done():
		}
		wait := materialiseAfter
		for ctx.Err() == nil && wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
			err := d.tidy(ctx.Err() != nil)
			if wait = 0; err != nil {
				wait = checkpointRetry
				if !failing {
					log.Warn("definitions are in the journal and not in files, will retry", "err", err)
				}
			}
			failing = err != nil
		}
	}
	if err := d.tidy(true); err != nil {
		log.Warn("definitions stay in the journal", "err", err)
	}
}

// tidy writes the files that are due: all of them, durably, if the journal has
// grown, is broken, or at the end.
func (d *disk) tidy(end bool) error {
	d.mu.Lock()
	whole := end || d.broken != nil || d.due || d.size >= journalMax
	d.mu.Unlock()
	if whole {
		return d.checkpoint()
	}
	return d.materialise(false)
}

// checkpoint makes all edits so far durable in files and removes the journals
// that hold them.
func (d *disk) checkpoint() (err error) {
	d.mu.Lock()
	broken, idle := d.broken, d.file == nil && !d.due && len(d.pending) == 0 && len(d.stale) == 0
	d.mu.Unlock()
	if idle && broken == nil {
		return nil
	}
	// A broken journal cannot be closed well; all it holds is pending or stale.
	if err := d.syncs.alone(d.closeJournal); err != nil && broken == nil {
		return err
	}
	d.mu.Lock()
	due := d.due
	d.due = false // an edit that finds no room from now on sets it again
	defer func() {
		if err != nil && due {
			d.mu.Lock()
			d.due = true
			d.mu.Unlock()
		}
	}()
	seq := d.seq // no edit from now on is in a journal up to this one
	if d.file != nil {
		seq--
	}
	d.mu.Unlock()
	if err = d.materialise(true); err == nil {
		err = d.syncFiles()
	}
	if err != nil {
		return err
	}
	dir := filepath.Join(d.dir, servicesDir)
	old, err := journals(dir)
	for _, n := range old {
		if n <= seq && err == nil {
			err = os.Remove(filepath.Join(dir, journalPrefix+strconv.Itoa(n)))
		}
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil && d.file == nil {
		d.broken = nil
	}
	if d.file == nil {
		d.size = 0
	}
	return nil
}

// materialise writes and removes the files of pending edits, without syncing
// them. States of TTL checks, which change all the time, wait for a checkpoint.
func (d *disk) materialise(states bool) error {
	d.mu.Lock()
	var list []change
	for k, data := range d.pending {
		if k.dir != stateDir || states {
			list = append(list, change{k, data})
		}
	}
	d.mu.Unlock()
	var first error
	for _, c := range list {
		path := d.path(c.key)
		var err error
		if c.data == nil {
			if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		} else {
			// Not by way of another name: should this be cut off, the journal has it.
			err = os.WriteFile(path, c.data, 0o600)
		}
		if err != nil {
			if first == nil {
				first = err
			}
			continue // others may fit, or make room
		}
		d.mu.Lock()
		if now, ok := d.pending[c.key]; ok && sameBytes(now, c.data) {
			delete(d.pending, c.key)
		}
		d.stale[c.key] = struct{}{}
		d.mu.Unlock()
	}
	return first
}

// sameBytes reports whether two contents are one slice: the same edit.
func sameBytes(x, y []byte) bool {
	if len(x) == 0 || len(y) == 0 {
		return (x == nil) == (y == nil) && len(x) == len(y)
	}
	return &x[0] == &y[0] && len(x) == len(y)
}

// syncFiles makes durable what materialise wrote.
func (d *disk) syncFiles() error {
	d.mu.Lock()
	stale := d.stale
	d.stale = make(map[fileKey]struct{})
	d.mu.Unlock()
	var wg sync.WaitGroup
	slots := make(chan struct{}, syncsAtOnce)
	errs := make([]error, 0, 1)
	var mu sync.Mutex
	for k := range stale {
		if k.dir == stateDir {
			continue // losing one in a crash costs one TTL
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := syncPath(d.path(k))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, sub := range []string{servicesDir, checksDir} {
		if err := syncDir(filepath.Join(d.dir, sub)); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	d.mu.Lock()
	for k := range stale {
		d.stale[k] = struct{}{}
	}
	d.mu.Unlock()
	return errs[0]
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(dir string) error { return syncPath(dir) }
