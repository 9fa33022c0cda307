package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

// copyDir is what a machine that lost its power, or an agent that was killed,
// finds again.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func names(t *testing.T, dir string) (journal, files []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, servicesDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), journalPrefix) {
			journal = append(journal, e.Name())
		} else {
			files = append(files, e.Name())
		}
	}
	return journal, files
}

// reopened is an agent that was just started on dir.
func reopened(t *testing.T, dir string) *Agent {
	t.Helper()
	cfg := testConfig(newCatalog())
	cfg.DataDir = dir
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRegistrationsAreDurableWhenAcknowledged(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(newCatalog())
		cfg.DataDir = dir
		a, stop := start(t, cfg)
		ctx := t.Context()
		_ = a.AddService(ctx, &ServiceDefinition{Name: "web", Port: 1, Checks: ttl(time.Minute)}, false)
		_ = a.AddService(ctx, &ServiceDefinition{Name: "web", Port: 2, Token: "t", Checks: ttl(time.Minute)}, false)
		_ = a.AddService(ctx, &ServiceDefinition{Name: "gone", Checks: ttl(time.Minute)}, false)
		_ = a.RemoveService(ctx, "gone")
		_ = a.UpdateTTL("service:web", store.Passing, "fine")
		same := func(when, dir string) {
			t.Helper()
			b := reopened(t, dir)
			s := b.Services()
			if len(s) != 1 || s["web"].Port != 2 || b.services["web"].def.Token != "t" {
				t.Errorf("%s: services %v", when, s)
			}
			if c := b.Checks(); len(c) != 1 || c["service:web"].Status != store.Passing || c["service:web"].Output != "fine" {
				t.Errorf("%s: checks %v", when, c)
			}
		}
		if j, f := names(t, dir); len(j) != 1 || len(f) != 0 {
			t.Errorf("before the files: %v %v", j, f)
		}
		same("killed at once", copyDir(t, dir))
		time.Sleep(2 * materialiseAfter)
		if _, f := names(t, dir); len(f) != 1 {
			t.Errorf("files after a while: %v", f)
		}
		same("killed later", copyDir(t, dir))
		stop()
		if j, f := names(t, dir); len(j) != 0 || len(f) != 1 {
			t.Errorf("after a stop: %v %v", j, f)
		}
		same("stopped", dir)
	})
}

func TestJournalOfAnEarlierRunIsTidied(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for i := range 3 { // killed each time
			a := reopened(t, dir)
			if _, err := a.disk.append([]change{{keyOf(servicesDir, fmt.Sprint(i)), fmt.Appendf(nil, `{"Service":{"Name":"%d"}}`, i)}}); err != nil {
				t.Fatal(err)
			}
		}
		if j, _ := names(t, dir); len(j) != 3 {
			t.Fatalf("journals: %v", j)
		}
		cfg := testConfig(newCatalog())
		cfg.DataDir = dir
		a, _ := start(t, cfg)
		time.Sleep(2 * materialiseAfter)
		if j, f := names(t, dir); len(j) != 0 || len(f) != 3 || len(a.Services()) != 3 {
			t.Errorf("journals %v, files %v, services %v", j, f, a.Services())
		}
	})
}

func TestJournalIsCheckpointedWhenItHasGrown(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(newCatalog())
		cfg.DataDir = dir
		a, _ := start(t, cfg)
		ctx := t.Context()
		_ = a.AddCheck(ctx, &CheckDefinition{Name: "c", TTL: Duration(time.Hour)})
		big := strings.Repeat("x", 4000)
		for i := range journalMax/4000 + 10 {
			_ = a.UpdateTTL("c", store.Passing, fmt.Sprint(i, big))
		}
		time.Sleep(2 * materialiseAfter)
		if j, _ := names(t, dir); len(j) != 0 {
			t.Errorf("journals %v", j)
		}
		_ = a.UpdateTTL("c", store.Warning, "last")
		_ = a.AddService(ctx, &ServiceDefinition{Name: "web"}, false)
		if j, _ := names(t, dir); len(j) != 1 {
			t.Errorf("journals %v", j)
		}
		if b := reopened(t, copyDir(t, dir)); b.Checks()["c"].Status != store.Warning || len(b.Services()) != 1 {
			t.Errorf("after a crash: %v", b.Checks()["c"])
		}
	})
}

func TestJournalLines(t *testing.T) {
	web := change{keyOf(servicesDir, "web"), []byte(`{"Service":{"Name":"web"}}`)}
	api := change{keyOf(servicesDir, "api"), []byte(`{"Service":{"Name":"api"}}`)}
	one, two := string(line([]change{web})), string(line([]change{api, {key: web.key}}))
	for name, tc := range map[string]struct {
		text string
		want string
	}{
		"whole":              {one + two, "[api]"},
		"empty":              {"", "[]"},
		"torn in the last":   {one + two[:len(two)-1], "[web]"},
		"torn in the sum":    {one + two[:4], "[web]"},
		"a bad line between": {one + strings.Replace(two, "api", "apx", 1) + one, "[web]"},
		"not hex":            {strings.Replace(one, one[:8], "zzzzzzzz", 1) + one, "[web]"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, servicesDir), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, servicesDir, journalPrefix+"7"), []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			a := reopened(t, dir)
			got := []string{}
			for id := range a.Services() {
				got = append(got, id)
			}
			if fmt.Sprint(got) != tc.want {
				t.Errorf("got %v want %s", got, tc.want)
			}
			if a.disk.seq < 7 && tc.text != "" {
				t.Errorf("the next journal is %d", a.disk.seq+1)
			}
		})
	}
	for _, bad := range []string{
		`[{"Dir":"../x","Name":"` + strings.Repeat("0", 64) + `","File":{}}]`,
		`[{"Dir":"services","Name":"../../etc/passwd","File":{}}]`,
	} {
		if c, err := parseLine([]byte(sealed(bad))); err == nil {
			t.Errorf("%s is taken: %v", bad, c)
		}
	}
}

// sealed gives a body the right sum.
func sealed(body string) string {
	return fmt.Sprintf("%08x %s", crc32.Checksum([]byte(body), castagnoli), body)
}

// faultyJournal fails as told.
type faultyJournal struct {
	journalFile
	f *journalFaults
}

type journalFaults struct {
	mu                    sync.Mutex
	write, sync, truncate error
	half                  bool // a failing write leaves half of its bytes
}

func (f *journalFaults) set(g func()) { f.mu.Lock(); g(); f.mu.Unlock() }

func (j *faultyJournal) Write(b []byte) (int, error) {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	if j.f.write != nil {
		if j.f.half {
			n, _ := j.journalFile.Write(b[:len(b)/2])
			return n, j.f.write
		}
		return 0, j.f.write
	}
	return j.journalFile.Write(b)
}

func (j *faultyJournal) Sync() error {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	return errors.Join(j.journalFile.Sync(), j.f.sync)
}

func (j *faultyJournal) Truncate(n int64) error {
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	if j.f.truncate != nil {
		return j.f.truncate
	}
	return j.journalFile.Truncate(n)
}

func withFaults(t *testing.T, dir string) (*Agent, *journalFaults, func()) {
	cfg := testConfig(newCatalog())
	cfg.DataDir = dir
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &journalFaults{}
	a.disk.create = func(path string) (journalFile, error) {
		j, err := createJournal(path)
		return &faultyJournal{j, f}, err
	}
	return a, f, run(t, a)
}

func TestFullDiskRefusesRegistrationsAndNotRemovals(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := withFaults(t, dir)
		ctx := context.Background()
		_ = a.AddService(ctx, &ServiceDefinition{Name: "old"}, false)
		_ = a.AddService(ctx, &ServiceDefinition{Name: "keep"}, false)
		f.set(func() { f.write, f.half = syscall.ENOSPC, true })
		err := a.AddService(ctx, &ServiceDefinition{Name: "new"}, false)
		if !errors.Is(err, syscall.ENOSPC) || store.KindOf(err) != store.KindInternal {
			t.Errorf("a registration on a full disk: %v", err)
		}
		if s := a.Services(); len(s) != 2 {
			t.Errorf("services: %v", s)
		}
		if err := a.RemoveService(ctx, "old"); err != nil {
			t.Errorf("a removal on a full disk: %v", err)
		}
		f.set(func() { f.write = nil })
		time.Sleep(2 * materialiseAfter)
		if err := a.AddService(ctx, &ServiceDefinition{Name: "new"}, false); err != nil {
			t.Errorf("after there was room: %v", err)
		}
		b := reopened(t, copyDir(t, dir))
		if s := b.Services(); len(s) != 2 || s["keep"] == nil || s["new"] == nil {
			t.Errorf("after a crash: %v", s)
		}
	})
}

func TestFailedSyncIsAnErrorAndMended(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := withFaults(t, dir)
		ctx := context.Background()
		f.set(func() { f.sync = syscall.EIO })
		if err := a.AddService(ctx, &ServiceDefinition{Name: "web"}, false); !errors.Is(err, syscall.EIO) {
			t.Errorf("a registration that is not durable: %v", err)
		}
		// Nobody knows what the journal holds: it takes no more.
		if err := a.AddService(ctx, &ServiceDefinition{Name: "api"}, false); !errors.Is(err, syscall.EIO) {
			t.Errorf("the next one: %v", err)
		}
		f.set(func() { f.sync = nil })
		time.Sleep(2 * materialiseAfter)
		if err := a.AddService(ctx, &ServiceDefinition{Name: "db"}, false); err != nil {
			t.Errorf("once mended: %v", err)
		}
		b := reopened(t, copyDir(t, dir))
		if s := b.Services(); len(s) != 2 || s["web"] == nil || s["db"] == nil {
			t.Errorf("after a crash: %v", s)
		}
	})
}

func FuzzJournalLine(f *testing.F) {
	f.Add(line([]change{{keyOf(servicesDir, "web"), []byte(`{"Service":{}}`)}, {key: keyOf(checksDir, "c")}}))
	f.Add([]byte("00000000 []\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		changes, err := parseLine(b)
		if err != nil {
			return
		}
		again, err := parseLine([]byte(strings.TrimSuffix(string(line(changes)), "\n")))
		if err != nil || len(again) != len(changes) {
			t.Fatalf("%v after %q", err, b)
		}
	})
}
