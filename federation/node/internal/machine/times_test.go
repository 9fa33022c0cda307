package machine

import (
	"testing"
	"testing/fstest"
)

func TestCPUTimes(t *testing.T) {
	at := func(text string) map[string]CPUTime {
		return cpuTimes(fstest.MapFS{"proc/stat": {Data: []byte(text)}})
	}
	before := at("cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 0 10 80 0 0 0 0 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\nintr 5 5 5 5 5 5 5 5\n")
	now := at("cpu0 30 10 15 140 4 0 0 1 30 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n")
	if len(before) != 2 {
		t.Fatalf("%+v", before)
	}
	got, ok := now["cpu0"].Since(before["cpu0"])
	if want := (CPUShare{User: 30, System: 6, Idle: 60, IOWait: 4}); !ok || got != want {
		t.Errorf("%+v %t, want %+v", got, ok, want)
	}
	for name, earlier := range map[string]CPUTime{"no time": now["cpu0"], "first look": {}} {
		if got, ok := now["cpu0"].Since(earlier); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if cpuTimes(fstest.MapFS{}) != nil {
		t.Error("times out of nothing")
	}
}
