package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"landbridge/store"
)

// disk keeps the definitions that the API registered: one file each, named by
// the SHA-256 of its id, behind a journal (journal.go). With no dir it keeps
// nothing.
type disk struct {
	dir   string
	syncs syncer
	wake  chan struct{} // one slot: run should look
	journal
}

const (
	servicesDir = "services"
	checksDir   = "checks"
	stateDir    = "checks/state"
	tmpSuffix   = ".tmp"
	maxFile     = 4 << 20 // a definition larger than any request body is not ours
)

func (d *disk) init(dir string) {
	d.dir = dir
	d.wake = make(chan struct{}, 1)
	d.create = createJournal
	d.pending = make(map[fileKey][]byte)
	d.held = make(map[fileKey]struct{})
	d.stale = make(map[fileKey]struct{})
}

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

func keyOf(dir, id string) fileKey {
	sum := sha256.Sum256([]byte(id))
	return fileKey{dir, hex.EncodeToString(sum[:])}
}

func (d *disk) path(k fileKey) string { return filepath.Join(d.dir, k.dir, k.name) }

// changesOf encodes definitions for append.
func (d *disk) changesOf(service *ServiceDefinition, checks []*CheckDefinition) ([]change, error) {
	if d.dir == "" {
		return nil, nil
	}
	list := make([]change, 0, 1+len(checks))
	add := func(dir, id string, v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return store.Errorf(store.KindInternal, "save definition %q: %w", id, err)
		}
		list = append(list, change{keyOf(dir, id), b})
		return nil
	}
	if service != nil {
		if err := add(servicesDir, service.ID, savedService{Token: service.Token, Service: service, Source: "remote"}); err != nil {
			return nil, err
		}
	}
	for _, c := range checks {
		if err := add(checksDir, c.ID, savedCheck{Token: c.Token, Check: c, Source: "remote"}); err != nil {
			return nil, err
		}
	}
	return list, nil
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

// alone runs do when no round is under way.
func (s *syncer) alone(do func() error) error {
	s.mu.Lock()
	s.initLocked()
	s.mu.Unlock()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return do()
}

func (s *syncer) initLocked() {
	if s.turn == nil {
		s.turn = make(chan struct{}, 1)
	}
}

func (s *syncer) sync(do func() error) error {
	s.mu.Lock()
	s.initLocked()
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

// saveState keeps a TTL check's state. Losing it in a crash of the machine costs
// one TTL, so nobody waits for it, and a failure is only logged. Called under
// Agent.edit.
func (d *disk) saveState(id, status, output string, expires time.Time, log *slog.Logger) {
	if d.dir == "" {
		return
	}
	b, err := json.Marshal(savedState{CheckID: id, Status: status, Output: output, Expires: expires.Unix()})
	if err == nil {
		_, err = d.append([]change{{keyOf(stateDir, id), b}})
	}
	if err != nil {
		log.Warn("state of check not saved", "check", id, "err", err)
	}
}

// read calls each with the contents of every definition file, as the journal has
// them. A file it refuses is logged and stays: it may be a newer version's.
func (d *disk) read(sub string, log *slog.Logger, each func(b []byte) error) error {
	if d.dir == "" {
		return nil
	}
	take := func(name string, b []byte, err error) {
		if err == nil {
			err = each(b)
		}
		if err != nil {
			log.Warn("definition file not loaded", "file", filepath.Join(d.dir, sub, name), "err", err)
		}
	}
	dir := filepath.Join(d.dir, sub)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("agent: read definitions: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		key := fileKey{sub, e.Name()}
		_, newer := d.pending[key]
		switch {
		case !e.Type().IsRegular() || newer || strings.HasPrefix(e.Name(), journalPrefix):
		case strings.HasSuffix(e.Name(), tmpSuffix):
			_ = os.Remove(path) // a write of another program that never finished
		default:
			d.held[key] = struct{}{}
			b, err := readFile(path)
			take(e.Name(), b, err)
		}
	}
	for key, b := range d.pending {
		if key.dir == sub && b != nil {
			take(key.name, b, nil)
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
		if err := a.disk.replay(log); err != nil {
			return err
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
