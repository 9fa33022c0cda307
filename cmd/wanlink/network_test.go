//go:build e2e

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests make real namespaces. Their bounds are wide, so that they also
// pass on a busy machine; "wanlink check" shows how true the emulation is.

// needRoot skips a test that cannot run here; where all have to run (CI sets
// LANDBRIDGE_CLIENTS), it fails it.
func needRoot(t *testing.T) {
	t.Helper()
	lacks := t.Skipf
	if os.Getenv("LANDBRIDGE_CLIENTS") == "all" {
		lacks = t.Fatalf
	}
	if os.Geteuid() != 0 {
		lacks("needs root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		lacks("needs /dev/net/tun: %v", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		lacks("needs iproute2: %v", err)
	}
}

func testName() string { return fmt.Sprintf("t%d", os.Getpid()%1000000) }

func newTestNetwork(t *testing.T, link Params) *network {
	needRoot(t)
	o := Options{Name: testName(), Prefix: "10.77", MTU: 1500, Link: link,
		Sites: []Site{{"dc1", 2}, {"dc2", 1}}, Ports: []string{"udp/7001"}, Seed: 1, PID: os.Getpid()}
	runtime.GOMAXPROCS(runtime.NumCPU() + 4)
	n, err := newNetwork(o)
	t.Cleanup(func() {
		if err := takeDown(o.Name); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDelay(t *testing.T) {
	n := newTestNetwork(t, Params{Delay: 30 * time.Millisecond})
	rtts, err := n.ping(20, 0)
	if err != nil {
		t.Fatal(err)
	}
	if p50 := quantile(rtts, .5); p50 < 60*time.Millisecond || p50 > 75*time.Millisecond {
		t.Errorf("round trip %v, want 60ms", p50)
	}
	// 23 echoes; what ends the echo goes in the other direction only.
	c := n.directions[1][0].counters()
	if c.UDPPackets != 23 || c.Ports["udp/7001"].Packets != 23 || c.UDPBytes != 23*(56+28) {
		t.Errorf("counters %+v", c)
	}
}

func TestLossOnTheWire(t *testing.T) {
	n := newTestNetwork(t, Params{Loss: .2})
	r, err := n.udpFlood("dc1", "dc2", 1, 200, 10000, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.lost(); r.sent < 1000 || got < .17 || got > .23 {
		t.Errorf("lost %.3f of %d", got, r.sent)
	}
	if r.outOfOrder != 0 {
		t.Errorf("%d packets out of order", r.outOfOrder)
	}
}

func TestTCPThroughRateLimit(t *testing.T) {
	n := newTestNetwork(t, Params{Rate: 50e6, Delay: 2 * time.Millisecond})
	bits, err := n.tcpStream(2, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if bits < 30e6 || bits > 55e6 {
		t.Errorf("%.1f Mbit/s, want 48", bits/1e6)
	}
}

// TestCommands goes through the life of a network as a user would, with the
// tool killed in the end.
func TestCommands(t *testing.T) {
	needRoot(t)
	bin := filepath.Join(t.TempDir(), "wanlink")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	name := testName() + "c"
	run := func(args ...string) (string, error) {
		args = append([]string{args[0], "-name", name}, args[1:]...)
		cmd := exec.Command(bin, args...)
		cmd.WaitDelay = 10 * time.Second
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return out
	}
	t.Cleanup(func() { run("down") })

	out := must("up", "-d", "-sites", "dc1=2,dc2=1", "-delay", "1ms")
	if !strings.Contains(out, "10.77.2.11") {
		t.Errorf("up printed %s", out)
	}
	if out, err := run("up", "-d", "-sites", "dc1=1,dc2=1"); err == nil || !strings.Contains(out, "already up") {
		t.Errorf("a second up: %v: %s", err, out)
	}
	if out := must("exec", "dc1/2", "--", "ip", "-4", "-o", "addr", "show", "eth0"); !strings.Contains(out, "10.77.1.12/24") {
		t.Errorf("dc1/2 has %s", out)
	}
	must("set", "dc1", "dc2", "loss=1%")
	must("cut", "-oneway", "dc1", "dc2")
	if out := must("show"); !strings.Contains(out, "CUT delay=1ms loss=1%") || strings.Count(out, "CUT delay") != 1 {
		t.Errorf("after a one-way cut:\n%s", out)
	}
	must("heal")
	must("set", "all", "none")
	if out := must("show"); strings.Contains(out, "CUT delay") || strings.Contains(out, "loss=") {
		t.Errorf("after healing:\n%s", out)
	}
	if out, err := run("set", "dc1", "dc7", "loss=1%"); err == nil {
		t.Errorf("an unknown site was accepted: %s", out)
	}

	// A process on a host, and the tool killed.
	sleeper := exec.Command(bin, "exec", "-name", name, "dc2/1", "--", "sleep", "300")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	state, err := readState(name)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	unix.Kill(state.PID, unix.SIGKILL)
	time.Sleep(100 * time.Millisecond)
	if out, err := run("show"); err == nil {
		t.Errorf("still up: %s", out)
	}
	must("down")
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the process on a host outlived the network")
		sleeper.Process.Kill()
	}
	if left := namespacesOf(name); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(stateDir(name)); err == nil {
		t.Errorf("%s is left", stateDir(name))
	}

	// A command instead of a stay, and its status.
	if out := must("up", "--", "sh", "-c", "echo $WANLINK_NAME"); out != name {
		t.Errorf("the command saw %q", out)
	}
	if _, err := run("up", "--", "sh", "-c", "exit 7"); err == nil || err.(*exec.ExitError).ExitCode() != 7 {
		t.Errorf("exit 7 became %v", err)
	}
	if left := namespacesOf(name); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
