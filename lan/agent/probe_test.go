package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/lan/agent/check"
	"landbridge/store"
)

// network is what tcp checks of a story connect to: each attempt is noted, and
// takes and ends as the story says.
type network struct {
	mu    sync.Mutex
	takes time.Duration
	err   error
	at    []time.Time
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.at = append(n.at, time.Now())
	takes, err := n.takes, n.err
	n.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	_ = far.Close()
	return near, nil
}

// set changes what happens from now on.
func (n *network) set(takes time.Duration, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.takes, n.err = takes, err
}

func (n *network) attempts() []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.at)
}

var errDown = errors.New("down")

const up = "TCP connect db:1: Success"

func tcpCheck(name string) *CheckDefinition {
	return &CheckDefinition{Name: name, TCP: "db:1", Interval: Duration(10 * time.Second)}
}

func onNetwork(t *testing.T, edit func(*Config), story func(t *testing.T, a *Agent, c *catalog, n *network)) {
	n := &network{}
	in(t, func(cfg *Config, _ *catalog) {
		cfg.CheckDial = n.dial
		if edit != nil {
			edit(cfg)
		}
	}, func(t *testing.T, a *Agent, c *catalog) { story(t, a, c, n) })
}

// TestEveryKindHasItsProbe compares what is run with the definition, time-out
// included.
func TestEveryKindHasItsProbe(t *testing.T) {
	engine := check.Engine{Host: "tcp://engine:2375"}
	cfg := testConfig(newCatalog())
	cfg.Docker, cfg.SystemBus, cfg.CheckOutputMaxSize = engine, "unix:path=/bus", 1000
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	off := false
	named := check.TLS{ServerName: "db.example", SkipVerify: true}
	for _, c := range []struct {
		def     CheckDefinition
		probe   check.Probe
		timeout time.Duration
	}{
		{CheckDefinition{Args: []string{"x", "-v"}, OutputMaxSize: 20},
			&check.Script{Args: []string{"x", "-v"}, Timeout: 30 * time.Second, Limit: 20, Slots: a.scripts}, 30 * time.Second},
		{CheckDefinition{Args: []string{"x"}, Timeout: Duration(time.Second), OutputMaxSize: 2000},
			&check.Script{Args: []string{"x"}, Timeout: time.Second, Limit: 1000, Slots: a.scripts}, time.Second},
		{CheckDefinition{DockerContainerID: "c", Shell: "sh", Args: []string{"x"}},
			&check.Docker{Engine: engine, Container: "c", Shell: "sh", Args: []string{"x"}, Timeout: 30 * time.Second, Limit: 1000}, 30 * time.Second},
		{CheckDefinition{HTTP: "http://x", Method: "PUT", Body: "b", Header: map[string][]string{"A": {"b"}}, DisableRedirects: true, TLSServerName: "db.example", TLSSkipVerify: true},
			&check.HTTP{URL: "http://x", Method: "PUT", Body: "b", Header: map[string][]string{"A": {"b"}}, NoRedirects: true, TLS: named, Limit: 1000}, 10 * time.Second},
		{CheckDefinition{TCP: "x:1", Timeout: -1}, &check.TCP{Address: "x:1"}, 10 * time.Second},
		{CheckDefinition{TCP: "x:1", TCPUseTLS: true, TLSServerName: "db.example", TLSSkipVerify: true}, &check.TCP{Address: "x:1", TLS: &named}, 10 * time.Second},
		{CheckDefinition{UDP: "x:1"}, &check.UDP{Address: "x:1"}, 10 * time.Second},
		{CheckDefinition{GRPC: "x:1/s"}, &check.GRPC{Target: "x:1/s"}, 10 * time.Second},
		{CheckDefinition{GRPC: "x:1", GRPCUseTLS: true}, &check.GRPC{Target: "x:1", TLS: &check.TLS{}}, 10 * time.Second},
		{CheckDefinition{H2PING: "x:1"}, &check.H2Ping{Address: "x:1", TLS: &check.TLS{}}, 10 * time.Second},
		{CheckDefinition{H2PING: "x:1", H2PingUseTLS: &off}, &check.H2Ping{Address: "x:1"}, 10 * time.Second},
		{CheckDefinition{OSService: "nginx"}, &check.OSService{Unit: "nginx", Bus: "unix:path=/bus"}, 10 * time.Second},
		{CheckDefinition{TTL: 1}, nil, 0},
	} {
		if p, timeout := a.newProbe(&c.def); !reflect.DeepEqual(p, c.probe) || timeout != c.timeout {
			t.Errorf("%s: got %+v %v, want %+v %v", c.def.Type(), p, timeout, c.probe, c.timeout)
		}
	}
}

func TestSchedule(t *testing.T) {
	onNetwork(t, nil, func(t *testing.T, a *Agent, c *catalog, n *network) {
		begun := time.Now()
		n.set(3*time.Second, nil)
		_ = a.AddCheck(t.Context(), tcpCheck("c"))
		shows(t, a, "c", store.Critical, "")
		time.Sleep(2 * time.Minute)
		at := n.attempts()
		if first := at[0].Sub(begun); first < 0 || first >= 10*time.Second {
			t.Errorf("first run after %v, want within the interval", first)
		}
		for i := range at[1:] {
			if between := at[i+1].Sub(at[i]); between != 13*time.Second {
				t.Errorf("%v between runs, want an interval after the end of the last", between)
			}
		}
		shows(t, a, "c", store.Passing, up)
		if got := c.check("c"); got.Status != store.Passing || got.Output != up || got.Type != "tcp" || got.Interval != "10s" {
			t.Errorf("in the catalog: %s", got.AppendJSON(nil))
		}
		// The time-out of a definition, and the output of one without words.
		slow := tcpCheck("c")
		slow.Timeout = Duration(2 * time.Second)
		_ = a.AddCheck(t.Context(), slow)
		shows(t, a, "c", store.Critical, "") // another definition begins anew
		time.Sleep(time.Minute)
		shows(t, a, "c", store.Critical, "context deadline exceeded")
	})
}

// TestFirstRunsSpread starts many checks at once, as a restart does.
func TestFirstRunsSpread(t *testing.T) {
	onNetwork(t, nil, func(t *testing.T, a *Agent, c *catalog, n *network) {
		var checks []*CheckDefinition
		for i := range 200 {
			checks = append(checks, tcpCheck(fmt.Sprint("c", i)))
		}
		begun := time.Now()
		_ = a.ReloadDefinitions(nil, checks)
		time.Sleep(9900 * time.Millisecond)
		var early int
		at := n.attempts()
		for _, x := range at {
			if x.Sub(begun) < 5*time.Second {
				early++
			}
		}
		if len(at) < 180 || len(at) > 200 || early < 50 || early > 150 {
			t.Errorf("%d runs in the first interval, %d of them in its first half", len(at), early)
		}
		times := make(map[time.Time]bool)
		for _, x := range at {
			times[x] = true
		}
		if len(times) > int(10*time.Second/tick)+1 {
			t.Errorf("they were run at %d times, want a tick apart", len(times))
		}
	})
}

func TestShortIntervalIsASecond(t *testing.T) {
	onNetwork(t, nil, func(t *testing.T, a *Agent, c *catalog, n *network) {
		def := tcpCheck("c")
		def.Interval = Duration(time.Millisecond)
		_ = a.AddCheck(t.Context(), def)
		time.Sleep(10*time.Second + tick)
		if runs := len(n.attempts()); runs != 10 && runs != 11 {
			t.Errorf("%d runs in 10 s", runs)
		}
		if got := a.Checks()["c"]; got.Interval != "1s" {
			t.Errorf("shows an interval of %s", got.Interval)
		}
	})
}

// TestThresholdsKeepStatusAndOutput lives through failures that are too few.
func TestThresholdsKeepStatusAndOutput(t *testing.T) {
	onNetwork(t, nil, func(t *testing.T, a *Agent, c *catalog, n *network) {
		def := tcpCheck("c")
		def.SuccessBeforePassing, def.FailuresBeforeWarning, def.FailuresBeforeCritical = 2, 2, 3
		_ = a.AddCheck(t.Context(), def)
		step := func(status, output string) {
			t.Helper()
			time.Sleep(10 * time.Second)
			shows(t, a, "c", status, output)
		}
		step(store.Passing, up) // the first success counts at once
		n.set(0, errDown)
		step(store.Passing, up)
		step(store.Warning, "down")
		n.set(0, errors.New("worse"))
		step(store.Critical, "worse")
		n.set(0, nil)
		step(store.Critical, "worse")
		step(store.Passing, up)
	})
}

func TestSameDefinitionKeepsItsStatus(t *testing.T) {
	onNetwork(t, nil, func(t *testing.T, a *Agent, c *catalog, n *network) {
		ctx := t.Context()
		body := `{"Name":"web","Check":{"Name":"c","CheckID":"c","TCP":"db:1","Interval":"10s","Args":[],"Header":{}}}`
		register := func() {
			t.Helper()
			def, err := DecodeService([]byte(body))
			if err == nil {
				err = a.AddService(ctx, def, false)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		register()
		time.Sleep(10 * time.Second)
		shows(t, a, "c", store.Passing, up)
		runs := len(n.attempts())
		for range 20 { // more often than it is run
			time.Sleep(time.Second)
			register()
			shows(t, a, "c", store.Passing, up)
		}
		if got := len(n.attempts()) - runs; got != 2 {
			t.Errorf("%d runs in two intervals: registering it again disturbs them", got)
		}
		body = strings.Replace(body, `"10s"`, `"11s","Status":"warning"`, 1)
		register()
		shows(t, a, "c", store.Warning, "")
	})
}

// TestSameDefinitionAfterARestart registers a TTL check again, as services do that
// find their agent restarted: it keeps what it was told before.
func TestSameDefinitionAfterARestart(t *testing.T) {
	cfg := testConfig(newCatalog())
	cfg.DataDir = t.TempDir()
	register := func(a *Agent) {
		t.Helper()
		def, err := DecodeCheck([]byte(`{"Name":"c","TTL":"1h","Args":[],"Header":{},"H2PingUseTLS":true,"Timeout":"0s"}`))
		if err == nil {
			err = a.AddCheck(t.Context(), def)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a, stop := start(t, cfg)
	register(a)
	if err := a.UpdateTTL("c", store.Passing, "fine"); err != nil {
		t.Fatal(err)
	}
	stop()
	a, _ = start(t, cfg)
	register(a)
	if got := a.Checks()["c"]; got.Status != store.Passing || got.Output != "fine" {
		t.Errorf("after the restart: %s %q", got.Status, got.Output)
	}
}

// TestRemovedWhileItRuns takes a check away while it waits for its peer.
func TestRemovedWhileItRuns(t *testing.T) {
	onNetwork(t, nil, func(t *testing.T, a *Agent, c *catalog, n *network) {
		n.set(9*time.Second, errDown)
		def := tcpCheck("c")
		def.Status = store.Passing
		_ = a.AddCheck(t.Context(), def)
		for len(n.attempts()) == 0 {
			time.Sleep(time.Second)
		}
		if err := a.RemoveCheck(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		_ = a.AddCheck(t.Context(), &CheckDefinition{Name: "c", TTL: Duration(time.Hour), Status: store.Passing})
		time.Sleep(time.Minute)
		shows(t, a, "c", store.Passing, "")
		if runs := len(n.attempts()); runs != 1 {
			t.Errorf("%d runs, want none after the removal", runs)
		}
	})
}

func TestDiscardedOutput(t *testing.T) {
	onNetwork(t, func(cfg *Config) { cfg.DiscardCheckOutput = true }, func(t *testing.T, a *Agent, c *catalog, n *network) {
		_ = a.AddCheck(t.Context(), tcpCheck("c"))
		_ = a.AddCheck(t.Context(), &CheckDefinition{Name: "told", TTL: Duration(time.Hour)})
		_ = a.UpdateTTL("told", store.Passing, "fine")
		time.Sleep(10 * time.Second)
		shows(t, a, "c", store.Passing, "")
		shows(t, a, "told", store.Passing, "")
		a.DiscardCheckOutput(false)
		time.Sleep(10 * time.Second)
		shows(t, a, "c", store.Passing, up)
	})
}

func TestCheckMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	onNetwork(t, func(cfg *Config) { cfg.Registerer = reg }, func(t *testing.T, a *Agent, c *catalog, n *network) {
		_ = a.AddCheck(t.Context(), tcpCheck("c"))
		_ = a.AddCheck(t.Context(), &CheckDefinition{Name: "told", TTL: Duration(15 * time.Second)})
		_ = a.AddCheck(t.Context(), &CheckDefinition{Name: "al", AliasNode: node})
		_ = a.UpdateTTL("told", store.Warning, "")
		n.set(time.Second, nil)
		time.Sleep(10 * time.Second)
		n.set(time.Second, errDown)
		time.Sleep(11 * time.Second)
		n.set(time.Hour, nil)
		time.Sleep(21 * time.Second)
		want := map[string]float64{"tcp passing": 1, "tcp critical": 1, "tcp timed_out": 1, "ttl warning": 1, "ttl timed_out": 1}
		kinds := a.metrics.kinds
		for name, got := range map[string]prometheus.Counter{
			"tcp passing": kinds["tcp"].passing, "tcp critical": kinds["tcp"].critical, "tcp timed_out": kinds["tcp"].timedOut,
			"ttl warning": kinds["ttl"].warning, "ttl timed_out": kinds["ttl"].timedOut,
		} {
			if v := testutil.ToFloat64(got); v != want[name] {
				t.Errorf("%s: %v, want %v", name, v, want[name])
			}
		}
		if v := testutil.ToFloat64(kinds["tcp"].seconds); v != 12 {
			t.Errorf("tcp checks took %v s, want 12", v)
		}
		if v := testutil.ToFloat64(kinds["tcp"].running); v != 0 {
			t.Errorf("%v tcp checks run", v)
		}
		if testutil.ToFloat64(kinds["alias"].critical) == 0 {
			t.Error("aliases are not counted")
		}
	})
}

// TestScriptsMustBeAllowed registers a script and a container's program, from the
// API and from a file, with each setting.
func TestScriptsMustBeAllowed(t *testing.T) {
	const off = "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
	const remote = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
	const file = "check \"s\": " + off
	for _, c := range []struct {
		all, local bool
		api, file  string
	}{
		{false, false, remote, file},
		{false, true, remote, ""},
		{true, false, "", ""},
		{true, true, "", ""},
	} {
		for _, def := range []*CheckDefinition{
			{Name: "s", Args: []string{"true"}, Interval: Duration(time.Hour)},
			{Name: "s", DockerContainerID: "c", Args: []string{"true"}, Interval: Duration(time.Hour)},
		} {
			in(t, func(cfg *Config, _ *catalog) { cfg.EnableScriptChecks, cfg.EnableLocalScriptChecks = c.all, c.local },
				func(t *testing.T, a *Agent, _ *catalog) {
					for from, call := range map[string]struct {
						err  error
						want string
						kind store.Kind
					}{
						"API":  {a.AddCheck(t.Context(), def), c.api, store.KindInvalid},
						"file": {a.ReloadDefinitions(nil, []*CheckDefinition{def}), c.file, store.KindInvalid},
					} {
						if call.want == "" && call.err != nil || call.want != "" && (call.err == nil || call.err.Error() != call.want || store.KindOf(call.err) != call.kind) {
							t.Errorf("%s, all %t, local %t: %v, want %q", from, c.all, c.local, call.err, call.want)
						}
					}
				})
		}
	}
}

// TestScriptOfTheAPIAfterARestart forbids scripts between two starts: what the API
// registered is not run, and comes back when it is allowed again.
func TestScriptOfTheAPIAfterARestart(t *testing.T) {
	dir, ran := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	begin := func(allowed bool) (*Agent, func()) {
		cfg := testConfig(newCatalog())
		cfg.DataDir, cfg.EnableScriptChecks = dir, allowed
		return start(t, cfg)
	}
	a, stop := begin(true)
	def := &CheckDefinition{Name: "s", Args: []string{"touch", ran}, Interval: Duration(time.Hour)}
	if err := a.AddCheck(t.Context(), def); err != nil {
		t.Fatal(err)
	}
	stop()
	a, stop = begin(false)
	if len(a.Checks()) != 0 {
		t.Error("a script that is forbidden is there")
	}
	stop()
	a, stop = begin(true)
	defer stop()
	if got := a.Checks()["s"]; got == nil || got.Type != "script" || got.Interval != "1h0m0s" {
		t.Errorf("after it is allowed again: %+v", got)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it ran at once, not at a random time within the hour")
	}
}
