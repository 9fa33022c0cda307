package machine

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"
)

func TestRead(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	root := fstest.MapFS{
		"proc/meminfo":     file("MemTotal:       1000 kB\nMemFree:  100 kB\nMemAvailable:    250 kB\nCached:  7 kB\nHugePages_Total:       0\n"),
		"proc/cpuinfo":     file("processor\t: 0\nvendor_id\t: V\nmodel name\t: M\ncpu MHz\t\t: 2000.5\ncache size\t: 512 KB\nflags\t\t: a b\n\nprocessor\t: 1\nmodel name\t: N\n"),
		"proc/uptime":      file("345.67 12.3\n"),
		"proc/1/stat":      file(""),
		"proc/22/stat":     file(""),
		"proc/self/mounts": file("/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/a\\040b xfs rw 0 0\n"),
		"etc/os-release":   file("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"),
		"etc/machine-id":   file("0123456789abcdef0123456789abcdef\n"),
	}
	in := read(root, "/")
	if len(in.Errors) > 0 {
		t.Errorf("errors: %q", in.Errors)
	}
	if m := in.Memory; m.Total != 1000<<10 || m.Available != 250<<10 || m.Used != 750<<10 || m.UsedPercent != 75 || m.Cached != 7<<10 {
		t.Errorf("memory %+v", m)
	}
	if len(in.CPU) != 2 || in.CPU[0].ModelName != "M" || in.CPU[0].MHz != 2000.5 || in.CPU[0].CacheSize != 512 || len(in.CPU[0].Flags) != 2 ||
		in.CPU[1].CPU != 1 || in.CPU[1].ModelName != "N" {
		t.Errorf("cpu %+v", in.CPU)
	}
	h := in.Host
	if h.Uptime != 345 || h.Procs != 2 || h.OS != "linux" || h.Platform != "debian" || h.PlatformVersion != "12" || h.Hostname == "" || h.KernelVersion == "" {
		t.Errorf("host %+v", h)
	}
	if len(h.HostID) != 36 || strings.Contains(strings.ReplaceAll(h.HostID, "-", ""), "0123456789abcdef") {
		t.Errorf("the machine's ID shows: %s", h.HostID)
	}
	if d := in.Disk; d.Path != "/" || d.Total == 0 || d.Used == 0 || d.Fstype != "ext4" {
		t.Errorf("disk %+v", d)
	}
	for dir, want := range map[string]string{"/tmp/a b/c": "xfs", "/tmp/a": "tmpfs", "/tmpfile": "ext4", "/procs": "ext4"} {
		if got, err := fsType(root, dir); got != want || err != nil {
			t.Errorf("%s is on %s, %v; want %s", dir, got, err, want)
		}
	}
	b, err := json.Marshal(in)
	if err != nil || !strings.HasPrefix(string(b), `{"Memory":{"total":1024000,`) || !strings.Contains(string(b), `"Errors":null}`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestReadWhatIsNotThere(t *testing.T) {
	in := read(fstest.MapFS{}, "/is/not/there")
	if len(in.Errors) != 4 {
		t.Errorf("errors: %q", in.Errors)
	}
	if b, err := json.Marshal(in); err != nil || !strings.Contains(string(b), `"CPU":[]`) {
		t.Errorf("%s, %v", b, err)
	}
	if real := Read(t.TempDir()); len(real.Errors) > 0 || real.Memory.Total == 0 {
		t.Errorf("this machine: %+v", real)
	}
}
