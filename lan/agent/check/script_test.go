package check

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

func shell(line string) *Script {
	return &Script{Args: []string{"/bin/sh", "-c", line}, Timeout: 10 * time.Second, Limit: 4096}
}

func TestScript(t *testing.T) {
	t.Setenv("LANDBRIDGE_TEST", "from the agent")
	for name, c := range map[string]struct {
		script         *Script
		status, output string
	}{
		"passing":         {shell("echo fine"), store.Passing, "fine\n"},
		"warning":         {shell("echo hm; exit 1"), store.Warning, "hm\n"},
		"critical":        {shell("echo bad; exit 2"), store.Critical, "bad\n"},
		"both outputs":    {shell("echo out; echo err >&2"), store.Passing, "out\nerr\n"},
		"killed":          {shell("echo last words; kill -9 $$"), store.Critical, "last words\n"},
		"no shell":        {&Script{Args: []string{"echo", "$HOME", "a b"}, Limit: 100}, store.Passing, "$HOME a b\n"},
		"environment":     {shell("echo $LANDBRIDGE_TEST"), store.Passing, "from the agent\n"},
		"no input":        {shell("cat; echo end"), store.Passing, "end\n"},
		"not there":       {&Script{Args: []string{"/nowhere/x"}, Limit: 100}, store.Critical, "fork/exec /nowhere/x: no such file or directory"},
		"not in the path": {&Script{Args: []string{"no-such-program"}, Limit: 100}, store.Critical, `exec: "no-such-program": executable file not found in $PATH`},
		"long output": {&Script{Args: []string{"/bin/sh", "-c", "head -c 9990 /dev/zero | tr '\\0' x; printf 0123456789"}, Limit: 20}, store.Passing,
			"Captured 20 of 10000 bytes\n...\nxxxxxxxxxx0123456789"},
	} {
		t.Run(name, func(t *testing.T) { wants(t, c.script, c.status, c.output) })
	}
}

// TestScriptTimeout has a script start another program that waits: both end with
// the time-out, which the test learns from a pipe that they hold open.
func TestScriptTimeout(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := shell("exec 3>" + fifo + "; echo begun; sleep 1000 & sleep 1000")
	script.Timeout = time.Second
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan Result)
	go func() { result <- script.Run(ctx) }()
	alive, err := os.Open(fifo) // waits for the script
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	cancel()
	same(t, <-result, store.Critical, "Timed out (1s) running check")
	if n, err := alive.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v, want the end of the pipe", n, err)
	}
}

// TestScriptLeavesAChild has a script end while something it started keeps its
// output open: the check does not wait for that, and the exit code counts.
func TestScriptLeavesAChild(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "end")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ code, status string }{{"0", store.Passing}, {"1", store.Warning}, {"3", store.Critical}} {
		script := shell("(read x < " + fifo + ") & exit " + c.code)
		script.grace = time.Millisecond
		wants(t, script, c.status, "*")
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the child, and lets it end
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
}

func TestScriptSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := make(Slots, 1)
		slots <- struct{}{} // another script, which hangs
		s := &Script{Args: []string{"true"}, Timeout: 30 * time.Second, Slots: slots}
		began := time.Now()
		r, timedOut := Once(t.Context(), s, s.Timeout)
		if took := time.Since(began); took != 30*time.Second || !timedOut {
			t.Errorf("it took %v, timed out %t", took, timedOut)
		}
		same(t, r, store.Critical, "Timed out (30s) waiting to run: 1 other scripts are running")
	})
	slots := make(Slots, 1)
	for range 3 { // each gives its place back
		wants(t, &Script{Args: []string{"true"}, Limit: 10, Slots: slots}, store.Passing, "")
	}
}
