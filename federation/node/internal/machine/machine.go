// Package machine tells about the machine that an agent runs on: its memory,
// processors, system and the disk of the data directory, for /v1/agent/host and
// debug archives.
//
// It reads /proc and a few files of Linux each time, and promises no more than
// that: what cannot be read is left zero and named in Info.Errors. Read may be
// called concurrently.
package machine

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Info is the body of /v1/agent/host. Its members are named as the tools name
// them that read it; their set is not stable.
type Info struct {
	Memory         Memory
	CPU            []CPU
	Host           Host
	Disk           Disk
	CollectionTime int64 // Unix nanoseconds
	Errors         []string
}

// Memory is in bytes.
type Memory struct {
	Total       uint64  `json:"total"`
	Available   uint64  `json:"available"`
	Used        uint64  `json:"used"`
	UsedPercent float64 `json:"usedPercent"`
	Free        uint64  `json:"free"`
	Active      uint64  `json:"active"`
	Inactive    uint64  `json:"inactive"`
	Buffers     uint64  `json:"buffers"`
	Cached      uint64  `json:"cached"`
	Dirty       uint64  `json:"dirty"`
	WriteBack   uint64  `json:"writeBack"`
	Shared      uint64  `json:"shared"`
	Slab        uint64  `json:"slab"`
	SwapTotal   uint64  `json:"swapTotal"`
	SwapFree    uint64  `json:"swapFree"`
}

// CPU is one logical processor.
type CPU struct {
	CPU        int      `json:"cpu"`
	VendorID   string   `json:"vendorId"`
	Family     string   `json:"family"`
	Model      string   `json:"model"`
	Stepping   int      `json:"stepping"`
	PhysicalID string   `json:"physicalId"`
	CoreID     string   `json:"coreId"`
	Cores      int      `json:"cores"`
	ModelName  string   `json:"modelName"`
	MHz        float64  `json:"mhz"`
	CacheSize  int      `json:"cacheSize"` // KB
	Flags      []string `json:"flags"`
	Microcode  string   `json:"microcode"`
}

// Host is the system.
type Host struct {
	Hostname        string `json:"hostname"`
	Uptime          uint64 `json:"uptime"`   // seconds
	BootTime        uint64 `json:"bootTime"` // Unix seconds
	Procs           uint64 `json:"procs"`
	OS              string `json:"os"`
	Platform        string `json:"platform"`
	PlatformVersion string `json:"platformVersion"`
	KernelVersion   string `json:"kernelVersion"`
	KernelArch      string `json:"kernelArch"`
	HostID          string `json:"hostId"` // made of the machine's ID, which is not to be shown itself
}

// Disk is the file system of the data directory.
type Disk struct {
	Path              string  `json:"path"`
	Fstype            string  `json:"fstype"`
	Total             uint64  `json:"total"`
	Free              uint64  `json:"free"`
	Used              uint64  `json:"used"`
	UsedPercent       float64 `json:"usedPercent"`
	InodesTotal       uint64  `json:"inodesTotal"`
	InodesUsed        uint64  `json:"inodesUsed"`
	InodesFree        uint64  `json:"inodesFree"`
	InodesUsedPercent float64 `json:"inodesUsedPercent"`
}

// Read looks at the machine. dir is the data directory; "" means the root.
func Read(dir string) *Info { return read(os.DirFS("/"), dir) }

// read is Read with /proc and /etc below root.
func read(root fs.FS, dir string) *Info {
	if dir == "" {
		dir = "/"
	}
	in := &Info{CollectionTime: time.Now().UnixNano(), CPU: []CPU{}}
	for _, part := range []struct {
		what string
		read func() error
	}{
		{"memory", func() error { return in.Memory.read(root) }},
		{"cpu", func() (err error) { in.CPU, err = cpus(root); return err }},
		{"host", func() error { return in.Host.read(root, in.CollectionTime) }},
		{"disk", func() error { return in.Disk.read(root, dir) }},
	} {
		if err := part.read(); err != nil {
			in.Errors = append(in.Errors, fmt.Sprintf("%s: %v", part.what, err))
		}
	}
	return in
}

// fields calls f for each line "name: value" or "name=value" of a file.
func fields(root fs.FS, name, sep string, f func(key, value string)) error {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), sep)
		f(strings.TrimSpace(key), strings.TrimSpace(value))
	}
	return lines.Err()
}

func (m *Memory) read(root fs.FS) error {
	to := map[string]*uint64{
		"MemTotal": &m.Total, "MemAvailable": &m.Available, "MemFree": &m.Free, "Active": &m.Active, "Inactive": &m.Inactive,
		"Buffers": &m.Buffers, "Cached": &m.Cached, "Dirty": &m.Dirty, "Writeback": &m.WriteBack, "Shmem": &m.Shared,
		"Slab": &m.Slab, "SwapTotal": &m.SwapTotal, "SwapFree": &m.SwapFree,
	}
	err := fields(root, "proc/meminfo", ":", func(key, value string) {
		if p := to[key]; p != nil {
			*p = number(strings.TrimSuffix(value, " kB")) << 10
		}
	})
	m.Used = m.Total - min(m.Total, m.Available)
	m.UsedPercent = percent(m.Used, m.Total)
	return err
}

func cpus(root fs.FS) ([]CPU, error) {
	list := []CPU{}
	err := fields(root, "proc/cpuinfo", ":", func(key, value string) {
		if key == "processor" {
			list = append(list, CPU{CPU: int(number(value)), Flags: []string{}})
		}
		if len(list) == 0 {
			return
		}
		c := &list[len(list)-1]
		switch key {
		case "vendor_id":
			c.VendorID = value
		case "cpu family":
			c.Family = value
		case "model":
			c.Model = value
		case "stepping":
			c.Stepping = int(number(value))
		case "physical id":
			c.PhysicalID = value
		case "core id":
			c.CoreID = value
		case "cpu cores":
			c.Cores = int(number(value))
		case "model name":
			c.ModelName = value
		case "cpu MHz":
			c.MHz, _ = strconv.ParseFloat(value, 64)
		case "cache size":
			c.CacheSize = int(number(strings.TrimSuffix(value, " KB")))
		case "flags", "Features":
			c.Flags = strings.Fields(value)
		case "microcode":
			c.Microcode = value
		}
	})
	return list, err
}

func (h *Host) read(root fs.FS, now int64) error {
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	h.Hostname, err = os.Hostname()
	note(err)
	var u syscall.Utsname
	note(syscall.Uname(&u))
	h.OS, h.KernelVersion, h.KernelArch = strings.ToLower(text(u.Sysname[:])), text(u.Release[:]), text(u.Machine[:])
	up, err := fs.ReadFile(root, "proc/uptime")
	note(err)
	seconds, _, _ := strings.Cut(string(up), ".")
	h.Uptime = number(seconds)
	h.BootTime = uint64(now/int64(time.Second)) - h.Uptime
	entries, err := fs.ReadDir(root, "proc")
	note(err)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			h.Procs++
		}
	}
	err = fields(root, "etc/os-release", "=", func(key, value string) {
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			h.Platform = value
		case "VERSION_ID":
			h.PlatformVersion = value
		}
	})
	if !errors.Is(err, fs.ErrNotExist) { // images without one are usual
		note(err)
	}
	h.HostID = hostID(root)
	return errors.Join(errs...)
}

// HostID is what Host.HostID holds: the same after each start of this machine,
// "" if the machine has no ID.
func HostID() string { return hostID(os.DirFS("/")) }

func hostID(root fs.FS) string {
	id, err := fs.ReadFile(root, "etc/machine-id")
	if id = bytes.TrimSpace(id); err != nil || len(id) == 0 {
		return ""
	}
	sum := sha256.Sum256(append([]byte("landbridge host id "), id...))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// Room returns how much of the file system that holds dir a user may still fill, and
// its size, in bytes.
func Room(dir string) (free, size uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", dir, err)
	}
	block := uint64(st.Bsize) //nolint:gosec // a size
	return st.Bavail * block, st.Blocks * block, nil
}

func (d *Disk) read(root fs.FS, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	block := uint64(st.Bsize) //nolint:gosec // a size
	d.Path = dir
	d.Total, d.Free = st.Blocks*block, st.Bavail*block
	d.Used = (st.Blocks - st.Bfree) * block
	d.UsedPercent = percent(d.Used, d.Used+d.Free) // what is kept for root is neither
	d.InodesTotal, d.InodesFree = st.Files, st.Ffree
	d.InodesUsed = d.InodesTotal - d.InodesFree
	d.InodesUsedPercent = percent(d.InodesUsed, d.InodesTotal)
	d.Fstype, err = fsType(root, dir)
	return err
}

// fsType is the type of the file system that dir is on: that of the longest mount
// point above it, the last one of several there.
func fsType(root fs.FS, dir string) (string, error) {
	b, err := fs.ReadFile(root, "proc/self/mounts")
	if err != nil {
		return "", err
	}
	kind, longest := "", -1
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[1])
		if len(at) >= longest && (dir == at || at == "/" || strings.HasPrefix(dir, at+"/")) {
			kind, longest = f[2], len(at)
		}
	}
	return kind, nil
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func percent(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole) * 100
}

// text reads a string of the kernel's, up to its zero.
func text[T int8 | uint8](s []T) string {
	var b strings.Builder
	for _, c := range s {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}
