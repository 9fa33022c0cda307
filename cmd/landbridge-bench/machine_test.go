package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestUse(t *testing.T) {
	u := use{took: 2 * time.Second, agents: time.Second, load: 500 * time.Millisecond, links: 200 * time.Millisecond, machine: 3 * time.Second}
	if got, want := u.others(), 1300*time.Millisecond; got != want {
		t.Errorf("others %s, want %s", got, want)
	}
	if got := u.percent(u.agents); got != 50 {
		t.Errorf("%g %% of a core, want 50", got)
	}
	u.machine = time.Second // the kernel's clocks are coarse
	if u.others() != 0 {
		t.Errorf("others %s, want 0", u.others())
	}
}

// TestProcess: CPU time of a process is there while it runs and after its end, and
// that of the next one comes on top.
func TestProcess(t *testing.T) {
	var p process
	if p.alive() || p.cpu() != 0 || p.rss() != 0 {
		t.Error("a process before its start")
	}
	p.kill() // does nothing
	work := func() {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; exec sleep 600")
		cmd.Stdout = w
		err = p.start(cmd, syscall.SIGKILL)
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	work()
	if !p.alive() || p.rss() == 0 || p.cpu() == 0 {
		t.Errorf("it runs: alive %t, %g MiB, CPU %s", p.alive(), p.rss(), p.cpu())
	}
	p.kill()
	first := p.cpu()
	if p.alive() || first == 0 {
		t.Errorf("killed: alive %t, CPU %s", p.alive(), first)
	}
	work()
	p.end(syscall.SIGTERM, time.Minute)
	if p.alive() || p.cpu() <= first {
		t.Errorf("ended: alive %t, CPU %s after %s", p.alive(), p.cpu(), first)
	}
}

func TestLockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockFile(ctx, path); err == nil {
		t.Error("two hold the lock")
	}
	unlock()
	if unlock, err = lockFile(ctx, path); err != nil {
		t.Errorf("given back: %v", err)
	} else {
		unlock()
	}
}

func TestSumTraffic(t *testing.T) {
	sum, drops, err := sumTraffic([]byte(`{"PID":1,"Links":[
		{"From":"dc1","To":"dc2","Packets":3,"Bytes":300,"UDPBytes":200,"Ports":{"udp/8302":{"Packets":2,"Bytes":200}}},
		{"From":"dc2","To":"dc1","Packets":1,"Bytes":50,"UDPBytes":50,"Ports":{"udp/8302":{"Packets":1,"Bytes":50}}}],
		"KernelDrops":{"dc1":2,"dc2":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if sum.Packets != 4 || sum.Bytes != 350 || sum.UDPBytes != 250 || sum.Ports["udp/8302"].Bytes != 250 || drops != 3 {
		t.Errorf("%+v, %d dropped", sum, drops)
	}
	if _, _, err := sumTraffic([]byte("no")); err == nil {
		t.Error("no error")
	}
}
