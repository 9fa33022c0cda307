package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// network is a wanlink process and the hosts that it joins.
type network struct {
	process
	t    *trial
	name string
	once sync.Once // of down
}

// host is one host of a network, a network namespace.
type host struct {
	network *network
	id      string // "dc1/1"
}

var networkNumber atomic.Int64

// newNetwork makes a network and waits until it is up. Sites are as wanlink wants
// them ("dc1=4,dc2=3"), and so are settings of all links.
func (t *trial) newNetwork(sites string, settings ...string) *network {
	w := &network{t: t, name: fmt.Sprintf("b%dx%d", os.Getpid()%1000000, networkNumber.Add(1)%1000)}
	args := append([]string{"up", "-name", w.name, "-sites", sites, "-cc", t.options.congestion, "-ports", "udp/8302,tcp/8302,tcp/8300"}, settings...)
	cmd := exec.Command(t.options.wanlink, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	r, out, err := os.Pipe()
	t.check(err, "wanlink")
	cmd.Stdout = out
	t.mu.Lock()
	t.networks = append(t.networks, w)
	t.mu.Unlock()
	err = t.start(&w.process, cmd, syscall.SIGTERM) // it takes the network down
	out.Close()
	t.check(err, "wanlink")
	// It prints the hosts when the network is up, and nothing if there is none.
	up := make(chan error, 1)
	go func() {
		defer r.Close()
		in := bufio.NewReader(r)
		_, err := in.ReadString('\n')
		up <- err
		_, _ = io.Copy(io.Discard, in) // ends with wanlink
	}()
	select {
	case err = <-up:
	case <-time.After(time.Minute):
		err = errors.New("not up within a minute")
	}
	if err != nil {
		w.down()
		t.failf("wanlink up: %v: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return w
}

// down ends wanlink, which removes the network; what a killed one leaves is
// removed here.
func (w *network) down() {
	w.once.Do(func() {
		w.end(syscall.SIGTERM, 20*time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if out, err := exec.CommandContext(ctx, w.t.options.wanlink, "down", "-name", w.name).CombinedOutput(); err != nil {
			fmt.Fprintf(w.t.progress, "  network %s is not removed: %v: %s\n", w.name, err, out)
		}
	})
}

// wanlink runs a command on the network.
func (w *network) wanlink(command string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(w.t.ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, w.t.options.wanlink, append([]string{command, "-name", w.name}, args...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("wanlink %s %s: %w: %s", command, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return out, err
}

// link changes links: link("set", "dc1", "dc2", "delay=40ms"), link("heal").
func (w *network) link(command string, args ...string) {
	_, err := w.wanlink(command, args...)
	w.t.check(err, "links")
}

// traffic is what the links of a network delivered, both directions together; sizes
// are of IP packets.
type traffic struct {
	Packets, Bytes, UDPBytes float64
	Ports                    map[string]struct{ Bytes float64 } // "udp/8302"
}

// traffic counts from the making of the network on.
func (w *network) traffic() traffic {
	out, err := w.wanlink("show", "-json")
	w.t.check(err, "counters")
	sum, drops, err := sumTraffic(out)
	w.t.check(err, "counters")
	if drops > 0 {
		w.t.notef("the kernel dropped %d packets before the emulated links: this machine is too slow for the load", drops)
	}
	return sum
}

// sumTraffic reads what "wanlink show -json" prints. Drops are of the kernel,
// before the links.
func sumTraffic(status []byte) (sum traffic, drops int64, err error) {
	var st struct {
		Links       []traffic
		KernelDrops map[string]int64
	}
	if err := json.Unmarshal(status, &st); err != nil {
		return traffic{}, 0, fmt.Errorf("wanlink show -json: %w", err)
	}
	sum.Ports = map[string]struct{ Bytes float64 }{}
	for _, l := range st.Links {
		sum.Packets += l.Packets
		sum.Bytes += l.Bytes
		sum.UDPBytes += l.UDPBytes
		for port, v := range l.Ports {
			v.Bytes += sum.Ports[port].Bytes
			sum.Ports[port] = v
		}
	}
	for _, n := range st.KernelDrops {
		drops += n
	}
	return sum, drops, nil
}

func (w *network) host(id string) *host { return &host{w, id} }

// command is a command line that runs on the host; it keeps its process number.
func (h *host) command(args ...string) []string {
	return append([]string{h.network.t.options.wanlink, "exec", "-name", h.network.name, h.id, "--"}, args...)
}

// inside runs f on a thread in the host's network namespace.
func (h *host) inside(f func() error) error {
	path := "/run/netns/" + h.network.name + "-" + strings.ReplaceAll(h.id, "/", "-")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	done := make(chan error, 1)
	go func() {
		// A thread that does not come back ends with the goroutine, locked as it is.
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer unix.Close(home)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter %s: %w", path, err)
			return
		}
		err = f()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// findWanlink returns the path of wanlink: what the user named, or the one beside
// this binary or in PATH.
func findWanlink(named string) (string, error) {
	if named == "" {
		if self, err := os.Executable(); err == nil {
			if beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), "wanlink")); err == nil {
				return beside, nil
			}
		}
		named = "wanlink"
	}
	path, err := exec.LookPath(named)
	if err != nil {
		return "", fmt.Errorf("%w: build it with `go build ./cmd/wanlink` and name it with -wanlink", err)
	}
	return filepath.Abs(path)
}
