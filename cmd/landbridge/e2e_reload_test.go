//go:build e2e

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gauge is a metric of the agent without labels.
func (a *agentProcess) gauge(name string) float64 {
	a.t.Helper()
	_, body := a.do("GET", "/v1/agent/metrics?format=prometheus", "")
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
	if m == nil {
		a.t.Fatalf("%s shows no %s", a.Name, name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		a.t.Fatal(err)
	}
	return v
}

// TestReloadsDuringJoins sends a server a thousand hang-ups, with another configuration
// every time, while agents join and leave: it takes the last one over, it is as well as
// before, and nothing is left over.
func TestReloadsDuringJoins(t *testing.T) {
	dir := t.TempDir()
	a := newAgent(t, dir, "hup", "dc1", "127.9.97.1", map[string]any{"bootstrap_expect": 1})
	a.start()
	until(t, 20*time.Second, "a leader", a.hasLeader)
	service := func(n int) { a.Conf["service"] = map[string]any{"name": "web", "port": n} }
	catalog := func() string { _, body := a.do("GET", "/v1/catalog/service/web", ""); return body }
	settle := func() (files int, goroutines float64) {
		t.Helper()
		for range 3 { // what waits to be closed is
			httpClient.CloseIdleConnections()
			time.Sleep(500 * time.Millisecond)
		}
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(list), a.gauge("go_goroutines")
	}
	// Once around, so that what is made once is there.
	service(1)
	a.reload()
	until(t, 20*time.Second, "the first reload", func() bool { return strings.Contains(catalog(), `"ServicePort":1,`) })
	files, goroutines := settle()

	done := make(chan struct{})
	joined := 0
	go func() {
		defer close(done)
		for ; joined < 6; joined++ {
			c := newAgent(t, filepath.Join(dir, "clients"), fmt.Sprint("c", joined), "dc1", fmt.Sprintf("127.9.97.%d", 10+joined), map[string]any{"server": false, "retry_join": []string{a.IP}})
			c.start()
			for range 200 {
				if c.hasLeader() {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			c.end(syscall.SIGTERM)
		}
	}()
	begin := time.Now()
	for n := range 1000 {
		service(1000 + n)
		a.reload()
		if n%10 == 0 {
			time.Sleep(20 * time.Millisecond) // else most of them are one signal to the kernel
		}
	}
	took := time.Since(begin)
	<-done
	until(t, 30*time.Second, "the last reload", func() bool { return strings.Contains(catalog(), `"ServicePort":1999,`) })
	until(t, 60*time.Second, "no more files and goroutines than before", func() bool {
		f, g := settle()
		t.Logf("files %d -> %d, goroutines %.0f -> %.0f", files, f, goroutines, g)
		return f <= files+3 && g <= goroutines+10
	})
	reloads := strings.Count(a.log(), "reload")
	t.Logf("1,000 hang-ups in %s with %d joins; %d lines about reloads", took.Round(time.Millisecond), joined, reloads)
	if joined != 6 || reloads < 50 {
		t.Errorf("%d agents joined, %d lines about reloads: the test shows nothing", joined, reloads)
	}
	select {
	case <-a.done:
		t.Error("the server ended")
	default:
	}
	if strings.Contains(a.log(), "panic") {
		t.Error("a panic is in the log")
	}
	a.want("PUT", "/v1/kv/after", "x", "true")
}

func (a *agentProcess) log() string {
	b, err := os.ReadFile(a.logFile())
	if err != nil {
		a.t.Fatal(err)
	}
	return string(b)
}
