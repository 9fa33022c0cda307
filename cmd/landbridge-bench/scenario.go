package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
)

// suite is what a subcommand can measure.
type suite struct {
	name      string
	about     string // for -h
	example   string // of -only
	scenarios []scenario
	ready     func(*options) error // says what is missing to run at all; may be nil
}

// scenario is one self-contained measurement.
type scenario struct {
	name, title string
	needs       []string     // programs
	run         func(*trial) // starts its own clusters
}

// trialLimit bounds one run of a scenario on one binary; then its processes are
// killed, which fails it.
const trialLimit = 8 * time.Minute

// pick finds the scenarios that -only names; "W4" stands for W4.join, W4.kill and
// W4.cut too. An empty list means all.
func (s *suite) pick(only string) ([]scenario, error) {
	if only == "" {
		return s.scenarios, nil
	}
	chosen := map[string]bool{}
	for want := range strings.SplitSeq(strings.ToUpper(only), ",") {
		found := false
		for _, sc := range s.scenarios {
			if name := strings.ToUpper(sc.name); name == want || strings.HasPrefix(name, want+".") {
				chosen[sc.name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("no scenario %q: -list names them", want)
		}
	}
	var out []scenario
	for _, sc := range s.scenarios {
		if chosen[sc.name] {
			out = append(out, sc)
		}
	}
	return out, nil
}

// trial is one run of one scenario on one binary. Its methods that end the
// scenario (failf, check, sleep) panic with a scenarioError, and so may only be
// called from the scenario's own goroutine.
type trial struct {
	ctx      context.Context // ends with the trial: at its limit, or when the user interrupts
	options  *options
	binary   *binary
	side     int // 0 is A, 1 is B
	scenario scenario
	dir      string // of the agents' files
	disk     string // block device that dir is on; "" if unknown
	results  *results
	progress io.Writer

	mu       sync.Mutex // guards the following
	nodes    []*node    // all that were ever made
	networks []*network // emulated ones (wan), likewise
	ended    bool       // no process may be started any more
}

type scenarioError string

// failf ends the scenario; figures recorded so far are kept.
func (t *trial) failf(format string, args ...any) { panic(scenarioError(fmt.Sprintf(format, args...))) }

// check ends the scenario if there is an error.
func (t *trial) check(err error, what string) {
	if err != nil {
		t.failf("%s: %v", what, err)
	}
}

// sleep waits for d; it ends the scenario when the trial is over before.
func (t *trial) sleep(d time.Duration) {
	select {
	case <-t.ctx.Done():
		t.failf("%v", context.Cause(t.ctx))
	case <-time.After(d):
	}
}

// until tries f every so often until it is content, for at most limit. It may be
// called from any goroutine.
func (t *trial) until(limit, every time.Duration, what string, f func() error) error {
	for end := time.Now().Add(limit); ; {
		err := f()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errExited):
			return err
		case t.ctx.Err() != nil:
			return context.Cause(t.ctx)
		case time.Now().After(end):
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		}
		time.Sleep(every)
	}
}

// add records a sample of a figure, unless the trial is over: then it ends the
// scenario, since what its agents did while they were stopped tells nothing.
func (t *trial) add(kase, name string, v float64, unit string, b better) {
	t.check(context.Cause(t.ctx), kase)
	fmt.Fprintf(t.progress, "  %-44s %-28s %10s %s\n", kase, name, number(v), unit)
	t.results.add(t.side, figure{Scenario: t.scenario.name, Case: kase, Name: name, Unit: unit, Better: b}, v)
}

// addLatencies records the quantiles of sorted latencies that there are enough of.
func (t *trial) addLatencies(kase, what string, sorted []time.Duration, quantiles ...float64) {
	for _, q := range quantiles {
		if carries(len(sorted), q) {
			t.add(kase, what+quantileName(q), milliseconds(quantile(sorted, q)), "ms", lower)
		}
	}
}

func quantileName(q float64) string {
	if q == 1 {
		return "max"
	}
	return "p" + strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", 100*q), "0"), ".")
}

// notef records something that is no figure.
func (t *trial) notef(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(t.progress, "  note: %s\n", text)
	t.results.addNote(&t.results.Notes, t.scenario.name, t.binary.Label, text)
}

// dur and num choose between the full and the -quick length of something.
func (t *trial) dur(full, quick time.Duration) time.Duration {
	if t.options.quick {
		return quick
	}
	return full
}

func (t *trial) num(full, quick int) int {
	if t.options.quick {
		return quick
	}
	return full
}

// run runs the scenario and ends what it started; it returns why it failed.
func (t *trial) run() (err error) {
	var cancel context.CancelFunc
	t.ctx, cancel = context.WithTimeoutCause(t.ctx, trialLimit, fmt.Errorf("ran past %s", trialLimit))
	defer cancel()
	// A scenario that waits for its agents is freed by their end.
	stop := context.AfterFunc(t.ctx, t.end)
	defer func() { stop(); t.end() }()
	defer func() {
		switch e := recover().(type) {
		case nil:
		case scenarioError:
			err = errors.New(string(e))
			if t.ctx.Err() != nil {
				err = context.Cause(t.ctx)
			}
		default:
			err = fmt.Errorf("panic: %v\n%s", e, debug.Stack())
		}
	}()
	use := t.meter()
	t.scenario.run(t)
	u := use.read()
	for _, x := range []struct {
		name string
		d    time.Duration
	}{{"agents", u.agents}, {"load generator", u.load}, {"wanlink", u.links}, {"others", u.others()}} {
		if x.name != "wanlink" || x.d > 0 {
			t.add("the machine during all of it", x.name, u.percent(x.d), "% of a core", neither)
		}
	}
	return nil
}

// end ends all processes and waits for that. It may be called more than once, and
// concurrently.
func (t *trial) end() {
	t.mu.Lock()
	t.ended = true
	nodes, networks := t.nodes, t.networks
	t.mu.Unlock()
	stopAll(nodes)
	for _, n := range networks {
		n.down()
	}
}

// start starts a process of the trial, unless that is over.
func (t *trial) start(p *process, cmd *exec.Cmd, onOurDeath syscall.Signal) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return context.Cause(t.ctx)
	}
	return p.start(cmd, onOurDeath)
}

// measure runs the chosen scenarios, A and B in turns, and returns the results; an
// error says that it could not begin or could not keep the results.
func measure(ctx context.Context, s *suite, o *options, progress io.Writer) (*results, error) {
	if s.ready != nil {
		if err := s.ready(o); err != nil {
			return nil, err
		}
	}
	for _, sc := range o.scenarios {
		for _, program := range sc.needs {
			if _, err := lookPath(program); err != nil {
				return nil, fmt.Errorf("%s needs %s: %w", sc.name, program, err)
			}
		}
	}
	raiseFileLimit()
	if err := renice(o.nice); err != nil {
		return nil, fmt.Errorf("-nice %d: %w", o.nice, err)
	}
	base, err := os.MkdirTemp(o.tmp, "landbridge-bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if left, _ := os.ReadDir(base); len(left) > 0 {
			fmt.Fprintf(progress, "kept %s\n", base)
		} else {
			os.Remove(base)
		}
	}()
	disk, err := diskOf(base)
	if err != nil && !o.quick {
		return nil, fmt.Errorf("%w: name a directory on a disk with -tmp", err)
	}
	rec := newResults(s, o, hostFacts(disk))
	if o.out != "" {
		if err := rec.load(o.out, o.scenarios, o.add); err != nil {
			return nil, err
		}
	}
	for _, sc := range o.scenarios {
		for round := range o.rounds {
			for side, b := range o.binaries {
				if ctx.Err() != nil {
					return rec, nil
				}
				fmt.Fprintf(progress, "%s %s: %s, round %d/%d (%s)\n", sc.name, b.Label, sc.title, round+1, o.rounds, time.Now().Format("15:04:05"))
				t := &trial{ctx: ctx, options: o, binary: b, side: side, scenario: sc, disk: disk, results: rec, progress: progress,
					dir: filepath.Join(base, fmt.Sprintf("%s-%c-%d", sc.name, 'a'+side, round+1))}
				err := t.locked()
				failed := err != nil && ctx.Err() == nil // an interrupted one is neither measured nor failed
				if failed {
					fmt.Fprintf(progress, "  FAILED: %v\n", err)
					rec.addNote(&rec.Failures, sc.name, b.Label, err.Error())
				}
				if !failed && !o.keep {
					os.RemoveAll(t.dir)
				}
				if o.out != "" {
					if err := rec.save(o.out); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	return rec, nil
}

// locked runs the trial while holding the lock file, if there is one.
func (t *trial) locked() error {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return err
	}
	unlock, err := lockFile(t.ctx, t.options.lock)
	if err != nil {
		return err
	}
	defer unlock()
	return t.run()
}
