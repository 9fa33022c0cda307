package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"landbridge/store"
)

// disk keeps the definitions that the API registered: one file each, named by
// the SHA-256 of its id, replaced by rename. With no dir it keeps nothing.
//
// Many registrations at once share what syncing costs: each writes and syncs its
// files side by side with others (stage), renames them in the order of the edits
// (staged.commit, under Agent.edit), and then waits for one sync of the folders
// that all who wait share (flush).
type disk struct {
	dir    string
	names  atomic.Uint64 // makes names of staged files differ
	folder syncer
}

const (
	servicesDir = "services"
	checksDir   = "checks"
	stateDir    = "checks/state"
	tmpSuffix   = ".tmp"
	maxFile     = 4 << 20 // a definition larger than any request body is not ours
)

type savedService struct {
	Token   string
	Service *ServiceDefinition
	Source  string
}

type savedCheck struct {
	Token  string
	Check  *CheckDefinition
	Source string
}

type savedState struct {
	CheckID string
	Status  string
	Output  string
	Expires int64 // Unix seconds
}

func (d *disk) path(sub, id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(d.dir, sub, hex.EncodeToString(sum[:]))
}

// staged is a file that is written and synced under another name.
type staged struct{ tmp, path string }

// stage writes definitions so that commit need only rename them.
func (d *disk) stage(service *ServiceDefinition, checks []*CheckDefinition) (list []staged, err error) {
	if d.dir == "" {
		return nil, nil
	}
	add := func(sub, id string, v any) {
		if err != nil {
			return
		}
		f := staged{path: d.path(sub, id)}
		f.tmp = fmt.Sprintf("%s.%d%s", f.path, d.names.Add(1), tmpSuffix)
		b, e := json.Marshal(v)
		if e == nil {
			e = writeFile(f.tmp, b, true)
		}
		if e != nil {
			err = store.Errorf(store.KindInternal, "save definition %q: %w", id, e)
			return
		}
		list = append(list, f)
	}
	if service != nil {
		add(servicesDir, service.ID, savedService{Token: service.Token, Service: service, Source: "remote"})
	}
	for _, c := range checks {
		add(checksDir, c.ID, savedCheck{Token: c.Token, Check: c, Source: "remote"})
	}
	if err != nil {
		abandon(list)
		return nil, err
	}
	return list, nil
}

// commit gives staged files their names; flush makes that durable.
func commit(list []staged) error {
	for _, f := range list {
		if err := os.Rename(f.tmp, f.path); err != nil {
			abandon(list)
			return store.Errorf(store.KindInternal, "save definition: %w", err)
		}
	}
	return nil
}

func abandon(list []staged) {
	for _, f := range list {
		_ = os.Remove(f.tmp)
	}
}

// flush returns when the names given by commits so far are durable.
func (d *disk) flush() error {
	if d.dir == "" {
		return nil
	}
	if err := d.folder.sync(func() error {
		return errors.Join(syncDir(filepath.Join(d.dir, servicesDir)), syncDir(filepath.Join(d.dir, checksDir)))
	}); err != nil {
		return store.Errorf(store.KindInternal, "save definition: %w", err)
	}
	return nil
}

// syncer lets callers share rounds of a sync: each is served by a round that
// begins after it came.
type syncer struct {
	mu   sync.Mutex
	next *round
	turn chan struct{} // held by whoever runs a round
}

type round struct {
	done chan struct{}
	err  error // set before done is closed
}

func (s *syncer) sync(do func() error) error {
	s.mu.Lock()
	if s.turn == nil {
		s.turn = make(chan struct{}, 1)
	}
	if s.next == nil {
		s.next = &round{done: make(chan struct{})}
	}
	mine := s.next
	s.mu.Unlock()
	select {
	case <-mine.done:
	case s.turn <- struct{}{}:
		s.mu.Lock()
		r := s.next
		s.next = nil
		s.mu.Unlock()
		if r != nil {
			r.err = do()
			close(r.done)
		}
		<-s.turn
		<-mine.done // it was r, or an earlier round that is over
	}
	return mine.err
}

// saveState keeps a TTL check's state. Losing it in a crash costs one TTL, so
// it is not synced, and a failure is only logged. Called under Agent.edit.
func (d *disk) saveState(id, status, output string, expires time.Time, log *slog.Logger) {
	if d.dir == "" {
		return
	}
	path := d.path(stateDir, id)
	b, err := json.Marshal(savedState{CheckID: id, Status: status, Output: output, Expires: expires.Unix()})
	if err == nil {
		err = writeFile(path+tmpSuffix, b, false)
	}
	if err == nil {
		err = os.Rename(path+tmpSuffix, path)
	}
	if err != nil {
		log.Warn("state of check not saved", "check", id, "err", err)
	}
}

func (d *disk) dropService(id string) error { return d.drop(servicesDir, id) }

func (d *disk) dropCheck(id string) error {
	return errors.Join(d.drop(checksDir, id), d.drop(stateDir, id))
}

func (d *disk) drop(sub, id string) error {
	if d.dir == "" {
		return nil
	}
	err := os.Remove(d.path(sub, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func writeFile(path string, b []byte, sync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// read calls each with the contents of every definition file. A file it
// refuses is logged and stays: it may be a newer version's.
func (d *disk) read(sub string, log *slog.Logger, each func(b []byte) error) error {
	if d.dir == "" {
		return nil
	}
	dir := filepath.Join(d.dir, sub)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("agent: read definitions: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if strings.HasSuffix(e.Name(), tmpSuffix) {
			_ = os.Remove(path) // a write that never finished
			continue
		}
		b, err := readFile(path)
		if err == nil {
			err = each(b)
		}
		if err != nil {
			log.Warn("definition file not loaded", "file", path, "err", err)
		}
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%d bytes is too large for a definition", info.Size())
	}
	return os.ReadFile(path)
}

// load restores what the API registered before a restart, without waiting for
// the catalog: the first full sync compares.
func (a *Agent) load() error {
	log := a.cfg.Logger
	if a.disk.dir != "" {
		for _, sub := range []string{servicesDir, stateDir} { // stateDir is below checksDir
			if err := os.MkdirAll(filepath.Join(a.disk.dir, sub), 0o700); err != nil {
				return fmt.Errorf("agent: %w", err)
			}
		}
	}
	var services []*ServiceDefinition
	err := a.disk.read(servicesDir, log, func(b []byte) error {
		var f savedService
		if err := json.Unmarshal(b, &f); err != nil {
			return err
		}
		if f.Service == nil {
			return errors.New("no service in it")
		}
		f.Service.Token = f.Token
		d, err := a.normalizeService(f.Service, FromAPI)
		if err == nil {
			services = append(services, d)
		}
		return err
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	for _, d := range services {
		a.putServiceLocked(d, FromAPI, false)
	}
	a.mu.Unlock()
	states := make(map[string]savedState)
	a.states = states
	err = a.disk.read(stateDir, log, func(b []byte) error {
		var f savedState
		if err := json.Unmarshal(b, &f); err != nil {
			return err
		}
		states[f.CheckID] = f
		return nil
	})
	if err != nil {
		return err
	}
	return a.disk.read(checksDir, log, func(b []byte) error {
		var f savedCheck
		if err := json.Unmarshal(b, &f); err != nil {
			return err
		}
		if f.Check == nil {
			return errors.New("no check in it")
		}
		f.Check.Token = f.Token
		c, err := a.normalizeCheck(f.Check, FromAPI)
		if err != nil {
			return err
		}
		if a.serviceExists(c.ServiceID) != nil {
			// The service was removed and the machine stopped before the file was,
			// or a configuration file defines it, which comes later: keep it until
			// ReloadDefinitions decides.
			a.mu.Lock()
			a.orphans = append(a.orphans, c)
			a.mu.Unlock()
			return nil
		}
		a.mu.Lock()
		e := a.putCheckLocked(c, FromAPI)
		a.restoreLocked(e)
		a.mu.Unlock()
		return nil
	})
}

// restoreLocked gives a TTL check the state it had, if that has not expired.
func (a *Agent) restoreLocked(e *checkEntry) {
	s, ok := a.states[e.def.ID]
	if !ok || e.record.Type != "ttl" || !validStatus(s.Status) || time.Now().Unix() >= s.Expires {
		return
	}
	a.setRecordLocked(e, a.checkRecord(e.def, s.Status, s.Output))
	a.noteCriticalLocked(e, true)
}
