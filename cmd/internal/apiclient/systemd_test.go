package apiclient

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const units = "../../../deploy/systemd/"

const unitFile = units + "landbridge.service"

// TestUnitsAreClean lets systemd read the units, with the built binary at the place
// of the installed one, and rate what they leave open. It warns on standard error and
// exits 0 for what it ignores.
func TestUnitsAreClean(t *testing.T) {
	verifier, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	const installed = "/usr/bin/landbridge"
	dir := t.TempDir()
	list, err := filepath.Glob(units + "*.[st]*")
	must(t, err)
	found := 0
	for _, file := range list {
		ext := filepath.Ext(file)
		if ext != ".service" && ext != ".timer" {
			continue
		}
		found++
		raw, err := os.ReadFile(file)
		must(t, err)
		unit := strings.ReplaceAll(string(raw), "="+installed+" ", "="+binary(t)+" ")
		unit = strings.ReplaceAll(unit, "=/usr/lib/landbridge/snapshot", "=/bin/true")
		must(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(unit), 0o644))
	}
	if found != 6 {
		t.Errorf("%d units, want 6", found)
	}
	verify := func(name string) (string, error) {
		cmd := exec.Command(verifier, "verify", "--man=no", "./"+name)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, name := range []string{"landbridge.service", "landbridge@eu.service", "landbridge-snapshot.timer", "landbridge-snapshot@eu.timer"} {
		if base, _, ok := strings.Cut(name, "@eu"); ok { // an instance is a link
			for _, ext := range []string{".service", ".timer"} {
				if _, err := os.Stat(filepath.Join(dir, base+"@"+ext)); err == nil {
					_ = os.Symlink(base+"@"+ext, filepath.Join(dir, base+"@eu"+ext))
				}
			}
		}
		if out, err := verify(name); err != nil || out != "" {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
	}
	for _, name := range []string{"landbridge.service", "landbridge@.service", "landbridge-snapshot.service", "landbridge-snapshot@.service"} {
		out, err := exec.Command(verifier, "security", "--offline=true", "--no-pager", "--threshold=20", filepath.Join(dir, name)).CombinedOutput()
		if err != nil {
			t.Errorf("%s leaves more open than 2.0: %v\n%s", name, err, out)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "landbridge.service"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "landbridge.service"), []byte(strings.Replace(string(raw), "ProtectHome=", "ProtectHme=", 1)), 0o644))
	if out, _ := verify("landbridge.service"); out == "" {
		t.Error("a misspelt key passes the same check: it shows nothing")
	}
}

// TestUnitsAgree holds the template against the unit: they differ in names only.
func TestUnitsAgree(t *testing.T) {
	read := func(name string) []string {
		raw, err := os.ReadFile(units + name)
		must(t, err)
		return strings.Split(string(raw), "\n")
	}
	for _, pair := range [][2]string{{"landbridge.service", "landbridge@.service"}, {"landbridge-snapshot.service", "landbridge-snapshot@.service"},
		{"landbridge-snapshot.timer", "landbridge-snapshot@.timer"}} {
		a, b := read(pair[0]), read(pair[1])
		if len(a) != len(b) {
			t.Errorf("%s has %d lines, %s %d", pair[0], len(a), pair[1], len(b))
			continue
		}
		for i := 1; i < len(a); i++ { // the first one says what it is for
			if a[i] != b[i] && !strings.Contains(b[i], "%i") {
				t.Errorf("%s and %s differ: %q, %q", pair[0], pair[1], a[i], b[i])
			}
		}
	}
}

// TestUnitReload runs the unit's own commands for a reload, with a configuration
// that leaves to the unit what the unit says.
func TestUnitReload(t *testing.T) {
	raw, err := os.ReadFile(unitFile)
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "agent.hcl"), []byte(`bind_addr = "127.21.3.9"`), 0o644))
	for line := range strings.Lines(string(raw)) {
		if command, ok := strings.CutPrefix(line, "ExecReload=/usr/bin/landbridge "); ok {
			args := strings.Fields(strings.ReplaceAll(command, "/etc/landbridge", dir))
			if out, err := exec.Command(binary(t), args...).CombinedOutput(); err != nil || len(out) != 0 {
				t.Errorf("a good configuration: %v\n%s", err, out)
			}
			must(t, os.WriteFile(filepath.Join(dir, "agent.hcl"), []byte(`bind_addr = "nonsense"`), 0o644))
			if err := exec.Command(binary(t), args...).Run(); err == nil {
				t.Error("a broken configuration passes")
			}
			return
		}
	}
	t.Error("the unit does not check the configuration before a reload")
}

func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("LANDBRIDGE_BIN")
	if bin == "" {
		t.Fatal("LANDBRIDGE_BIN is not set: run `make e2e`")
	}
	return bin
}

// supervisor listens where NOTIFY_SOCKET says, as systemd does.
type supervisor struct {
	conn *net.UnixConn
	path string
}

func newSupervisor(t *testing.T) *supervisor {
	t.Helper()
	s := &supervisor{path: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s.conn = conn
	return s
}

// next is the next message, as variable -> value; nil if none comes in time.
func (s *supervisor) next(t *testing.T, within time.Duration) map[string]string {
	t.Helper()
	must(t, s.conn.SetReadDeadline(time.Now().Add(within)))
	buf := make([]byte, 4096)
	n, err := s.conn.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	must(t, err)
	vars := map[string]string{}
	for line := range strings.Lines(string(buf[:n])) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			t.Errorf("not an assignment: %q", line)
		}
		vars[name] = value
	}
	return vars
}

// until skips messages up to the first one that sets name.
func (s *supervisor) until(t *testing.T, name string) map[string]string {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		if m := s.next(t, time.Until(end)); m[name] != "" {
			return m
		}
	}
	t.Fatalf("no %s in time", name)
	return nil
}

// TestSupervisor is the conversation of an agent with systemd: ready when it
// answers, a watchdog fed while it runs, none while it is frozen, and stopping.
func TestSupervisor(t *testing.T) {
	s := newSupervisor(t)
	a := newAgent(t.TempDir(), "supervised", "dc1", "127.21.3.1", map[string]any{"server": true, "bootstrap_expect": 1})
	a.Env = []string{"NOTIFY_SOCKET=" + s.path, "WATCHDOG_USEC=1000000"}
	a.run(t)

	ready := s.until(t, "READY")
	if ready["READY"] != "1" || !strings.HasPrefix(ready["STATUS"], "server of dc1") {
		t.Fatalf("it said %v, want READY=1 and a STATUS", ready)
	}
	if _, err := a.client(t).Agent().Self(); err != nil {
		t.Errorf("it said READY=1, but its HTTP interface: %v", err)
	}
	last := time.Now()
	for led := false; !led; {
		beat := s.next(t, 5*time.Second)
		if beat["WATCHDOG"] != "1" || beat["STATUS"] == "" {
			t.Fatalf("after %s: %v, want WATCHDOG=1 and a STATUS", time.Since(last), beat)
		}
		if led = strings.Contains(beat["STATUS"], ", leader"); !led && time.Since(last) > 15*time.Second {
			t.Fatalf("STATUS stays %q", beat["STATUS"])
		}
	}

	// A reload is told, and so is one that changed nothing because the files are wrong.
	must(t, a.cmd.Process.Signal(syscall.SIGHUP))
	if m := s.until(t, "RELOADING"); m["MONOTONIC_USEC"] == "" {
		t.Errorf("a reload is told as %v, want MONOTONIC_USEC too", m)
	}
	if m := s.until(t, "READY"); strings.Contains(m["STATUS"], "reload") {
		t.Errorf("after a good reload: %v", m)
	}
	file := filepath.Join(a.Dir, "agent.json")
	good, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte("{"), 0o600))
	must(t, a.cmd.Process.Signal(syscall.SIGHUP))
	if m := s.until(t, "READY"); !strings.Contains(m["STATUS"], "the last reload was refused: reload: ") {
		t.Errorf("after a reload that failed: %v", m)
	}
	must(t, os.WriteFile(file, good, 0o600))
	must(t, a.cmd.Process.Signal(syscall.SIGHUP))
	if m := s.until(t, "READY"); strings.Contains(m["STATUS"], "refused") {
		t.Errorf("after another good reload: %v", m)
	}

	must(t, a.cmd.Process.Signal(syscall.SIGSTOP))
	for s.next(t, 100*time.Millisecond) != nil { // what was under way
	}
	if beat := s.next(t, 1500*time.Millisecond); beat != nil {
		t.Errorf("a frozen agent says %v", beat)
	}
	must(t, a.cmd.Process.Signal(syscall.SIGCONT))
	if beat := s.next(t, 5*time.Second); beat["WATCHDOG"] != "1" {
		t.Errorf("after the freeze: %v, want WATCHDOG=1", beat)
	}

	must(t, a.cmd.Process.Signal(syscall.SIGTERM))
	for end := time.Now().Add(10 * time.Second); ; {
		if m := s.next(t, time.Until(end)); m["STOPPING"] == "1" {
			break
		} else if m == nil {
			t.Fatal("no STOPPING=1 after SIGTERM")
		}
	}
	select {
	case <-a.done:
		if code := a.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	case <-time.After(15 * time.Second):
		t.Error("the agent did not end")
	}
}
