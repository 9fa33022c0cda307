package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"landbridge/store"
)

// runnerState holds what Run started, guarded by Agent.mu except for wg.
type runnerState struct {
	ctx context.Context // nil while Run does not
	wg  sync.WaitGroup  // flights and check loops; Add only while ctx is set
}

// checkRun is a check under way: a loop, or the clock of a TTL.
type checkRun struct {
	cancel context.CancelFunc // of a loop
	timer  *time.Timer        // of a TTL
	until  time.Time          // when the TTL is over; a timer that fires earlier is an old one
}

func (a *Agent) startRunner(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runner.ctx = ctx
	for _, e := range a.checks {
		if !e.deleted {
			a.startLocked(e)
		}
	}
}

func (a *Agent) stopRunner() {
	a.mu.Lock()
	a.runner.ctx = nil
	for _, e := range a.checks {
		a.stopLocked(e)
	}
	a.mu.Unlock()
	a.runner.wg.Wait()
}

// startLocked starts a check, or starts it anew.
func (a *Agent) startLocked(e *checkEntry) {
	a.stopLocked(e)
	ctx := a.runner.ctx
	if ctx == nil {
		return
	}
	run := &checkRun{}
	var loop func(context.Context, *checkEntry, *checkRun)
	switch e.def.Type() {
	case "ttl":
		ttl := time.Duration(e.def.TTL)
		run.until = time.Now().Add(ttl)
		run.timer = time.AfterFunc(ttl, func() { a.expire(e, run) })
	case "http", "tcp":
		loop = a.probeLoop
	case "alias":
		loop = a.aliasLoop
	default:
		return // maintenance
	}
	e.run = run
	if loop != nil {
		ctx, run.cancel = context.WithCancel(ctx)
		a.runner.wg.Go(func() { loop(ctx, e, run) })
	}
}

func (a *Agent) stopLocked(e *checkEntry) {
	if e.run == nil {
		return
	}
	if e.run.timer != nil {
		e.run.timer.Stop()
	}
	if e.run.cancel != nil {
		e.run.cancel()
	}
	e.run = nil
}

// expire makes a TTL check critical that was not heard of in time.
func (a *Agent) expire(e *checkEntry, run *checkRun) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.run != run || time.Now().Before(run.until) {
		return
	}
	a.cfg.Logger.Warn("check missed its TTL and is now critical", "check", e.def.ID)
	a.setStatusLocked(e, store.Critical, "TTL expired")
}

// result sets what a check loop found, unless the check has changed since.
func (a *Agent) result(e *checkEntry, run *checkRun, status, output string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.run == run {
		a.setStatusLocked(e, status, output)
	}
}

// probeLoop runs an HTTP or TCP check: first after a random part of the
// interval, so that checks spread, then an interval after each run.
func (a *Agent) probeLoop(ctx context.Context, e *checkEntry, run *checkRun) {
	def := e.def // of this run: a changed one starts another
	probe := a.newProbe(def)
	defer probe.close()
	runs := a.metrics.checkRuns[def.Type()]
	th := newThresholds(def)
	interval := time.Duration(def.Interval)
	t := time.NewTimer(jitter(interval))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		runs.Inc()
		status, output := probe.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if a.cfg.DiscardCheckOutput {
			output = ""
		}
		if th.take(status) {
			a.result(e, run, th.status, output)
		}
		t.Reset(interval)
	}
}

// thresholds turn a series of results into a status (spec
// health-and-anti-entropy.md 1).
type thresholds struct {
	passing, warning, critical int // results in a row that are needed
	successes, failures        int
	failed                     bool // a failure has been seen: passing needs its number
	status                     string
}

func newThresholds(d *CheckDefinition) *thresholds {
	t := &thresholds{
		passing:  max(d.SuccessBeforePassing, 1),
		warning:  d.FailuresBeforeWarning,
		critical: max(d.FailuresBeforeCritical, 1),
	}
	if t.warning <= 0 {
		t.warning = t.critical
	}
	return t
}

// take counts a result and reports whether the status is to be set.
func (t *thresholds) take(result string) bool {
	if result == store.Critical {
		t.failures++
		t.successes = 0
		t.failed = true
		switch {
		case t.failures >= t.critical:
			t.status = store.Critical
		case t.failures >= t.warning:
			t.status = store.Warning
		default:
			return false
		}
		return true
	}
	t.successes++
	t.failures = 0
	if t.failed && t.successes < t.passing {
		return false
	}
	t.status = result
	return true
}

// capOutput cuts a check's output to its limit, saying how much there was.
func (a *Agent) capOutput(d *CheckDefinition, output string) string {
	if a.cfg.DiscardCheckOutput {
		return ""
	}
	limit := a.outputLimit(d)
	if len(output) <= limit {
		return output
	}
	return fmt.Sprintf("Captured %d of %d bytes\n...\n%s", limit, len(output), output[len(output)-limit:])
}

func (a *Agent) outputLimit(d *CheckDefinition) int {
	limit := a.cfg.CheckOutputMaxSize
	if d.OutputMaxSize > 0 {
		limit = min(limit, d.OutputMaxSize)
	}
	return limit
}

const (
	aliasPoll  = time.Minute      // of another node's checks
	aliasRetry = 10 * time.Second // after a failed read
)

// aliasLoop mirrors the worst status of a service's checks, and of its node's.
func (a *Agent) aliasLoop(ctx context.Context, e *checkEntry, run *checkRun) {
	def := e.def
	local := def.AliasNode == "" || strings.EqualFold(def.AliasNode, a.cfg.Node)
	for {
		var changed <-chan struct{}
		wait := aliasPoll
		if local {
			checks, found, ch := a.localChecks(def.AliasService)
			changed = ch
			a.aliasResult(e, run, checks, found, a.cfg.Node)
		} else if checks, found, err := a.remoteChecks(ctx, def); err == nil {
			a.aliasResult(e, run, checks, found, def.AliasNode)
		} else {
			if ctx.Err() != nil {
				return
			}
			wait = aliasRetry
			a.result(e, run, store.Critical, fmt.Sprintf("Failed to read checks of node %s: %v", def.AliasNode, err))
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

func (a *Agent) localChecks(serviceID string) (checks []*store.Check, found bool, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	svc := a.services[serviceID]
	found = serviceID == "" || svc != nil && !svc.deleted
	for _, c := range a.checks {
		if !c.deleted && (c.record.ServiceID == "" || c.record.ServiceID == serviceID) {
			checks = append(checks, c.record)
		}
	}
	return checks, found, a.checksChanged
}

func (a *Agent) remoteChecks(ctx context.Context, def *CheckDefinition) (checks []*store.Check, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found = def.AliasService == ""
	if !found {
		node, err := a.cfg.Registrar.NodeServices(ctx, def.AliasNode)
		if err != nil {
			return nil, false, err
		}
		found = node != nil && slices.ContainsFunc(node.Services, func(s *store.Service) bool { return s.ID == def.AliasService })
	}
	all, err := a.cfg.Registrar.NodeChecks(ctx, def.AliasNode)
	for _, c := range all {
		if c.ServiceID == "" || c.ServiceID == def.AliasService {
			checks = append(checks, c)
		}
	}
	return checks, found, err
}

// aliasResult sets an alias check's status from the checks it mirrors. Itself is
// left out: once critical, it would hold itself so.
func (a *Agent) aliasResult(e *checkEntry, run *checkRun, checks []*store.Check, found bool, node string) {
	status, output := store.Passing, "No checks found."
	if !found {
		a.result(e, run, store.Critical, fmt.Sprintf("Service %s could not be found on node %s", e.def.AliasService, node))
		return
	}
	for _, c := range checks {
		if c.CheckID == e.def.ID {
			continue
		}
		if output == "No checks found." {
			output = "All checks passing."
		}
		if severity(c.Status) > severity(status) {
			status = c.Status
			output = fmt.Sprintf("Aliased check %q failing: %s", c.CheckID, c.Output)
		}
	}
	a.result(e, run, status, output)
}

// reap removes services one of whose checks has been critical for longer than
// it allows.
func (a *Agent) reap(ctx context.Context) {
	now := time.Now()
	gone := make(map[string]string)
	a.mu.Lock()
	for id, e := range a.checks {
		limit := time.Duration(e.def.DeregisterCriticalServiceAfter)
		if e.deleted || e.record.ServiceID == "" || limit <= 0 || e.criticalSince.IsZero() || now.Sub(e.criticalSince) < limit {
			continue
		}
		gone[e.record.ServiceID] = id
	}
	a.mu.Unlock()
	for service, check := range gone {
		a.cfg.Logger.Info("removing service that was critical for too long", "service", service, "check", check)
		if err := a.RemoveService(ctx, service); err != nil && store.KindOf(err) != store.KindNotFound {
			a.cfg.Logger.Warn("service not removed", "service", service, "err", err)
		}
	}
}
