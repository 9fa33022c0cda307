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

const unitFile = "../../../deploy/systemd/landbridge.service"

// TestUnitIsClean lets systemd read the unit, with the built binary at the place
// of the installed one. It warns on standard error and exits 0 for what it ignores.
func TestUnitIsClean(t *testing.T) {
	verifier, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	raw, err := os.ReadFile(unitFile)
	must(t, err)
	const installed = "/usr/bin/landbridge"
	if n := strings.Count(string(raw), "="+installed+" "); n != 2 {
		t.Fatalf("the unit runs %s %d times, want ExecStart and ExecReload", installed, n)
	}
	unit := strings.ReplaceAll(string(raw), installed, binary(t))
	verify := func(unit string) (string, error) {
		file := filepath.Join(t.TempDir(), "landbridge.service")
		must(t, os.WriteFile(file, []byte(unit), 0o644))
		out, err := exec.Command(verifier, "verify", "--man=no", file).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(unit); err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, _ := verify(strings.Replace(unit, "ProtectHome=", "ProtectHme=", 1)); out == "" {
		t.Error("a misspelt key passes the same check: it shows nothing")
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

// TestSupervisor is the conversation of an agent with systemd: ready when it
// answers, a watchdog fed while it runs, none while it is frozen, and stopping.
func TestSupervisor(t *testing.T) {
	s := newSupervisor(t)
	a := newAgent(t.TempDir(), "supervised", "dc1", "127.21.3.1", map[string]any{"server": true, "bootstrap_expect": 1})
	a.Env = []string{"NOTIFY_SOCKET=" + s.path, "WATCHDOG_USEC=1000000"}
	a.run(t)

	ready := s.next(t, 15*time.Second)
	if ready["READY"] != "1" || !strings.HasPrefix(ready["STATUS"], "server of dc1") {
		t.Fatalf("the first message is %v, want READY=1 and a STATUS", ready)
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
