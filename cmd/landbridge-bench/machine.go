package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// use is the CPU time that passed between two readings, by who used it.
type use struct {
	took   time.Duration // wall-clock time
	agents time.Duration // the agents that were asked about
	load   time.Duration // this process
	links  time.Duration // wanlink
	// machine is everybody's, with what a hypervisor took away.
	machine time.Duration
	// flushes is the disk's count of completed cache flushes, about one for each
	// fsync of anybody; -1 if the disk does not tell.
	flushes int64
}

// others is what neither agents, load nor links used. A run with much of it has too
// few requests/s and too high a p99; CPU per request suffers least.
func (u use) others() time.Duration { return max(0, u.machine-u.agents-u.load-u.links) }

// percent is d in percent of one core.
func (u use) percent(d time.Duration) float64 { return 100 * d.Seconds() / u.took.Seconds() }

// meter measures use from its making on. Without nodes it is about all agents of
// the trial, those that are started later included.
type meter struct {
	t     *trial
	nodes []*node
	began time.Time
	from  use
}

func (t *trial) meter(nodes ...*node) *meter {
	m := &meter{t: t, nodes: nodes, began: time.Now()}
	m.from = m.now()
	return m
}

func (m *meter) now() (u use) {
	m.t.mu.Lock()
	nodes, networks := m.nodes, m.t.networks
	if len(nodes) == 0 {
		nodes = m.t.nodes
	}
	m.t.mu.Unlock()
	u.agents = cpuOf(nodes)
	for _, n := range networks {
		u.links += n.cpu()
	}
	var self unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &self) // cannot fail with these arguments
	u.load = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	u.machine = machineCPU()
	u.flushes = flushes(m.t.disk)
	return u
}

// read returns what was used since the meter was made.
func (m *meter) read() use {
	u, from := m.now(), m.from
	u.took = time.Since(m.began)
	u.agents -= from.agents
	u.load -= from.load
	u.links -= from.links
	u.machine -= from.machine
	if u.flushes >= 0 {
		u.flushes -= from.flushes
	}
	return u
}

const clockTick = 100 // USER_HZ of Linux

func ticks(s string) time.Duration {
	v, _ := strconv.ParseInt(s, 10, 64)
	return time.Duration(v) * time.Second / clockTick
}

// processCPU is the user and system time of a process, or 0 if there is none.
func processCPU(pid int) time.Duration {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:])) // the name may contain anything
	if len(f) < 13 {
		return 0
	}
	return ticks(f[11]) + ticks(f[12])
}

// machineCPU is the machine's busy time with what the hypervisor stole.
func machineCPU() (sum time.Duration) {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	for i, f := range strings.Fields(line) {
		if 1 <= i && i <= 8 && i != 4 && i != 5 { // not idle, iowait; guest time is in user time
			sum += ticks(f)
		}
	}
	return sum
}

// processRSS is a process's resident memory in MiB, or 0 if there is none.
func processRSS(pid int) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, ok := strings.Cut(string(data), "VmRSS:")
	if !ok {
		return 0
	}
	kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib / 1024
}

// flushes is a disk's count of completed cache flushes, or -1.
func flushes(disk string) int64 {
	data, err := os.ReadFile("/sys/class/block/" + disk + "/stat")
	f := strings.Fields(string(data))
	if disk == "" || err != nil || len(f) < 16 {
		return -1
	}
	v, err := strconv.ParseInt(f[15], 10, 64)
	if err != nil {
		return -1
	}
	return v
}

// diskOf returns the block device that a directory is on, or "" where that is not
// known (an overlay, say). Memory file systems, where fsync costs nothing, are an error.
func diskOf(dir string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "", err
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return "", fmt.Errorf("%s is on a memory file system, where writes cost no disk", dir)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", err
	}
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return "", nil
	}
	return filepath.Base(link), nil
}

// hostFacts describes the machine, for those who compare result files.
func hostFacts(disk string) map[string]string {
	h := map[string]string{"cores": fmt.Sprint(runtime.NumCPU()), "go": runtime.Version(), "disk": disk}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h["kernel"] = unix.ByteSliceToString(u.Release[:])
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		if f := strings.Fields(string(data)); len(f) > 2 {
			h["memory"] = f[1] + " " + f[2]
		}
	}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(data), "model name\t: "); ok {
			h["cpu"], _, _ = strings.Cut(rest, "\n")
		}
	}
	return h
}

// renice sets the priority of every thread of this process. Threads and processes
// that are made later inherit it.
func renice(level int) error {
	if level == 0 {
		return nil
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, th := range threads {
		id, err := strconv.Atoi(th.Name())
		if err != nil {
			return err
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, level); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// raiseFileLimit lets this process and the agents hold many connections, as far as
// the system allows.
func raiseFileLimit() {
	want := unix.Rlimit{Cur: 100000, Max: 100000}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
		return
	}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &want) == nil {
		want.Cur = want.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &want) // with fewer, the load says which connection failed
	}
}

// lockFile takes an flock on a file, so that tools that measure do not meet on one
// machine. It waits for others until ctx ends; unlock gives the lock back.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() {
				f.Close()
				time.Sleep(300 * time.Millisecond) // or the next trial would win against all who wait
			}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// lookPath finds a program, and names Debian's package where it is not installed.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%w (Debian: apt-get install %s)", err, program)
	}
	return path, nil
}
