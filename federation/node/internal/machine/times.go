package machine

import (
	"io/fs"
	"os"
	"strings"
)

// CPUTime is what one processor did since the start, in ticks.
type CPUTime struct{ user, system, idle, iowait, total uint64 }

// CPUShare is what it did in a while, in percent of that while.
type CPUShare struct{ User, System, Idle, IOWait float64 }

// CPUTimes are those of each processor, "cpu0" and on; nil if nothing tells.
func CPUTimes() map[string]CPUTime { return cpuTimes(os.DirFS("/")) }

func cpuTimes(root fs.FS) map[string]CPUTime {
	raw, err := fs.ReadFile(root, "proc/stat")
	if err != nil {
		return nil
	}
	out := map[string]CPUTime{}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 8 || f[0] == "cpu" || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		var t CPUTime
		for _, v := range f[1:min(len(f), 9)] { // guests are counted among users
			t.total += number(v)
		}
		t.user, t.idle, t.iowait = number(f[1])+number(f[2]), number(f[4]), number(f[5])
		t.system = t.total - t.user - t.idle - t.iowait
		out[f[0]] = t
	}
	return out
}

// Since is what was done after before; false if no time has passed, or a counter
// went back.
func (t CPUTime) Since(before CPUTime) (CPUShare, bool) {
	if t.total <= before.total || before.total == 0 || t.user < before.user || t.system < before.system || t.idle < before.idle || t.iowait < before.iowait {
		return CPUShare{}, false
	}
	whole := t.total - before.total
	return CPUShare{
		User: percent(t.user-before.user, whole), System: percent(t.system-before.system, whole),
		Idle: percent(t.idle-before.idle, whole), IOWait: percent(t.iowait-before.iowait, whole),
	}, true
}
