package agent

import (
	"context"
	"sync"
	"time"

	"landbridge/lan/agent/check"
	"landbridge/store"
)

// runnerState holds what Run started, guarded by Agent.mu except for wg.
type runnerState struct {
	ctx context.Context // nil while Run does not
	wg  sync.WaitGroup  // flights, runs of checks and loops; Add only while ctx is set
}

// checkRun is a check under way. There is no goroutine for it while it waits: the
// runtime's timers are the scheduler.
type checkRun struct {
	ctx    context.Context // of its runs and loops
	cancel context.CancelFunc
	timer  *time.Timer // fires for the next run, or when a TTL is over
	until  time.Time   // when a TTL is over; a timer that fires earlier is an old one

	mirrors *string // of an alias of this node: the service

	// Of a probe: used by one run at a time, and never changed.
	probe      check.Probe
	timeout    time.Duration
	interval   time.Duration // from the end of a run to the next
	thresholds *check.Thresholds
	metrics    *kindMetrics
}

// tick is how close runs of checks are moved together. A run that has the processor
// woken for it alone costs up to ten times as much as one of many: with 1,000
// checks every 10 s, ten share each waking.
const tick = 100 * time.Millisecond

// ticks are the times at which checks are run. The phase is the agent's own: agents
// that check one service must not all come at the same moment.
type ticks struct{ phase time.Duration }

// until returns how long to wait for the tick that is nearest to d from now.
func (t ticks) until(d time.Duration) time.Duration {
	now := time.Now()
	at := now.Add(d - t.phase).Round(tick).Add(t.phase)
	return max(at.Sub(now), 0)
}

func (a *Agent) startRunner(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runner.ctx = ctx
	a.runner.wg.Go(func() { a.aliasLoop(ctx) })
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

// startLocked starts a check, or starts it anew: one that is probed first after a
// random part of its interval, so that checks spread.
func (a *Agent) startLocked(e *checkEntry) {
	a.stopLocked(e)
	if a.runner.ctx == nil {
		return
	}
	def := e.def // of this run: a changed one starts another
	kind := def.Type()
	run := &checkRun{metrics: a.metrics.kinds[kind]}
	switch kind {
	case "ttl":
		ttl := time.Duration(def.TTL)
		run.until = time.Now().Add(ttl)
		run.timer = time.AfterFunc(ttl, func() { a.expire(e, run) })
		e.run = run
		return
	case "maintenance":
		return
	}
	run.ctx, run.cancel = context.WithCancel(a.runner.ctx)
	e.run = run
	if kind == "alias" {
		a.startAliasLocked(e, run)
		return
	}
	run.interval = time.Duration(def.Interval)
	run.probe, run.timeout = a.newProbe(def)
	run.thresholds = check.NewThresholds(def.SuccessBeforePassing, def.FailuresBeforeWarning, def.FailuresBeforeCritical)
	run.timer = time.AfterFunc(a.ticks.until(jitter(run.interval)), func() { a.probe(e, run) })
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
	a.stopAliasLocked(e)
	e.run = nil
}

// probe runs a check once, and sets the timer for the next time.
func (a *Agent) probe(e *checkEntry, run *checkRun) {
	a.mu.Lock()
	if e.run != run {
		a.mu.Unlock()
		return
	}
	a.runner.wg.Add(1)
	a.mu.Unlock()
	defer a.runner.wg.Done()
	run.metrics.running.Inc()
	defer run.metrics.running.Dec()
	began := time.Now()
	r, timedOut := check.Once(run.ctx, run.probe, run.timeout)
	if run.ctx.Err() != nil {
		return // stopped: what it found says nothing
	}
	run.metrics.observe(r.Status, timedOut, time.Since(began))
	if a.discardOutput.Load() {
		r.Output = ""
	}
	status := run.thresholds.Take(r.Status)
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.run != run {
		return
	}
	if status != "" {
		a.setStatusLocked(e, status, r.Output)
	}
	run.timer.Reset(a.ticks.until(run.interval))
}

// expire makes a TTL check critical that was not heard of in time.
func (a *Agent) expire(e *checkEntry, run *checkRun) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.run != run || time.Now().Before(run.until) {
		return
	}
	run.metrics.observe(store.Critical, true, 0)
	a.cfg.Logger.Warn("check missed its TTL and is now critical", "check", e.def.ID)
	a.setStatusLocked(e, store.Critical, "TTL expired")
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
