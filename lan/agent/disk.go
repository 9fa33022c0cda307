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
	"time"

	"landbridge/store"
)

// disk keeps the definitions that the API registered: one file each, named by
// the SHA-256 of its id, replaced by rename. With no dir it keeps nothing.
// Calls are serialised by Agent.edit.
type disk struct{ dir string }

const (
	servicesDir = "services"
	checksDir   = "checks"
	stateDir    = "checks/state"
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

func (d disk) path(sub, id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(d.dir, sub, hex.EncodeToString(sum[:]))
}

func (d disk) saveService(s *ServiceDefinition) error {
	return d.save(servicesDir, s.ID, savedService{Token: s.Token, Service: s, Source: "remote"}, true)
}

func (d disk) saveCheck(c *CheckDefinition) error {
	return d.save(checksDir, c.ID, savedCheck{Token: c.Token, Check: c, Source: "remote"}, true)
}

// saveState keeps a TTL check's state. Losing it in a crash costs one TTL, so
// it is not synced, and a failure is only logged.
func (d disk) saveState(id, status, output string, expires time.Time, log *slog.Logger) {
	err := d.save(stateDir, id, savedState{CheckID: id, Status: status, Output: output, Expires: expires.Unix()}, false)
	if err != nil {
		log.Warn("state of check not saved", "check", id, "err", err)
	}
}

func (d disk) dropService(id string) error { return d.drop(servicesDir, id) }

func (d disk) dropCheck(id string) error {
	return errors.Join(d.drop(checksDir, id), d.drop(stateDir, id))
}

func (d disk) drop(sub, id string) error {
	if d.dir == "" {
		return nil
	}
	err := os.Remove(d.path(sub, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// save writes v as JSON. With sync it is durable on return.
func (d disk) save(sub, id string, v any, sync bool) error {
	if d.dir == "" {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := d.path(sub, id)
	if err := replaceFile(path, b, sync); err != nil {
		return store.Errorf(store.KindInternal, "save definition %q: %w", id, err)
	}
	return nil
}

func replaceFile(path string, b []byte, sync bool) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if !sync {
		return nil
	}
	return syncDir(dir)
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
func (d disk) read(sub string, log *slog.Logger, each func(b []byte) error) error {
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
		if strings.HasSuffix(e.Name(), ".tmp") {
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
