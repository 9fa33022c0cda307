package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"landbridge/store"
)

// aliasState is what the aliases of services of this node wait for, guarded by
// Agent.mu.
type aliasState struct {
	byTarget map[string]map[*checkEntry]struct{} // running ones by the service they mirror
	due      map[*checkEntry]struct{}            // to be looked at again
	wake     chan struct{}                       // one slot: there are some
}

func (s *aliasState) init() {
	s.byTarget = make(map[string]map[*checkEntry]struct{})
	s.due = make(map[*checkEntry]struct{})
	s.wake = make(chan struct{}, 1)
}

// isLocal reports whether an alias mirrors something of this node.
func (a *Agent) isLocal(alias *CheckDefinition) bool {
	return alias.AliasNode == "" || strings.EqualFold(alias.AliasNode, a.cfg.Node)
}

func (a *Agent) startAliasLocked(e *checkEntry, run *checkRun) {
	if !a.isLocal(e.def) {
		def := e.def
		a.runner.wg.Go(func() { a.remoteAliasLoop(e, run, def) })
		return
	}
	s := &a.aliases
	target := s.byTarget[e.def.AliasService]
	if target == nil {
		target = make(map[*checkEntry]struct{})
		s.byTarget[e.def.AliasService] = target
	}
	target[e] = struct{}{}
	run.mirrors = &e.def.AliasService
	a.aliasDueLocked(target)
}

// stopAliasLocked forgets a check that is an alias of a service of this node. Its
// definition may be another by now.
func (a *Agent) stopAliasLocked(e *checkEntry) {
	if e.run.mirrors == nil {
		return
	}
	s := &a.aliases
	delete(s.due, e)
	delete(s.byTarget[*e.run.mirrors], e)
	if len(s.byTarget[*e.run.mirrors]) == 0 {
		delete(s.byTarget, *e.run.mirrors)
	}
}

func (a *Agent) aliasDueLocked(list map[*checkEntry]struct{}) {
	if len(list) == 0 {
		return
	}
	for e := range list {
		a.aliases.due[e] = struct{}{}
	}
	select {
	case a.aliases.wake <- struct{}{}:
	default:
	}
}

// checksChangedLocked has the aliases of a service looked at again: all of them if
// it is a check of the node, since those count for each.
func (a *Agent) checksChangedLocked(serviceID string) {
	if serviceID != "" {
		a.aliasDueLocked(a.aliases.byTarget[serviceID])
		return
	}
	a.allAliasesDueLocked()
}

func (a *Agent) allAliasesDueLocked() {
	for _, target := range a.aliases.byTarget {
		a.aliasDueLocked(target)
	}
}

// aliasLoop keeps the aliases of this node's services up to date until ctx ends.
func (a *Agent) aliasLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.aliases.wake:
		}
		a.mu.Lock()
		due := a.aliases.due
		a.aliases.due = make(map[*checkEntry]struct{})
		a.mu.Unlock()
		for e := range due {
			a.lookAgain(e)
		}
	}
}

// lookAgain takes the lock for one alias at a time: there may be many.
func (a *Agent) lookAgain(e *checkEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.run == nil || e.run.mirrors == nil {
		return // stopped meanwhile
	}
	status, output := a.mirrorLocked(e)
	e.run.metrics.observe(status, false, 0)
	a.setStatusLocked(e, status, a.aliasOutput(output))
}

// aliasOutput bounds an output by its beginning, which says which check it is of.
func (a *Agent) aliasOutput(output string) string {
	if a.discardOutput.Load() {
		return ""
	}
	return output[:min(len(output), a.cfg.CheckOutputMaxSize)]
}

// mirrorLocked returns what an alias of this node shows: the worst of the checks of
// its service and of the node. Of another alias among them, the checks that it
// mirrors count, and itself does not: aliases of each other would hold each
// other critical for ever.
func (a *Agent) mirrorLocked(alias *checkEntry) (status, output string) {
	var m mirror
	seen := make(map[string]bool)
	var walk func(of *CheckDefinition, service string)
	walk = func(of *CheckDefinition, service string) {
		if seen[service] {
			return
		}
		seen[service] = true
		if s := a.services[service]; service != "" && (s == nil || s.deleted) {
			m.missing(of)
			return
		}
		for id := range a.sync.groupChecks(service) {
			switch c := a.checks[id]; {
			case c == nil || c.deleted:
			case c.record.Type == "alias" && a.isLocal(c.def):
				m.any = m.any || c != alias
				walk(c.def, c.def.AliasService)
			default:
				m.take(c.record)
			}
		}
	}
	walk(alias.def, alias.def.AliasService)
	walk(alias.def, "")
	return m.result()
}

// mirror finds the worst of checks, the one with the smallest id of several.
type mirror struct {
	any    bool // there are checks
	worst  *store.Check
	absent *CheckDefinition // an alias whose service does not exist, which is worse
}

func (m *mirror) take(c *store.Check) {
	m.any = true
	if w := m.worst; w == nil || severity(c.Status) > severity(w.Status) || severity(c.Status) == severity(w.Status) && c.CheckID < w.CheckID {
		m.worst = c
	}
}

func (m *mirror) missing(alias *CheckDefinition) {
	if w := m.absent; w == nil || alias.AliasService < w.AliasService {
		m.absent = alias
	}
}

func (m *mirror) result() (status, output string) {
	switch {
	case m.absent != nil:
		return store.Critical, fmt.Sprintf("Service %s could not be found on node %s", m.absent.AliasService, m.absent.AliasNode)
	case m.worst != nil && severity(m.worst.Status) > severity(store.Passing):
		return m.worst.Status, fmt.Sprintf("Aliased check %q failing: %s", m.worst.CheckID, m.worst.Output)
	case !m.any:
		return store.Passing, "No checks found."
	}
	return store.Passing, "All checks passing."
}

const (
	aliasWait  = time.Minute            // how long a read of another node's checks waits for a change
	aliasPause = 100 * time.Millisecond // between reads: a node whose checks change all the time costs no more
)

// remoteAliasLoop mirrors a service of another node, or that node, by reads that
// wait for a change.
func (a *Agent) remoteAliasLoop(e *checkEntry, run *checkRun, def *CheckDefinition) {
	var index store.Index
	failures := 0
	for {
		status, output, next, err := a.mirrorRemote(run.ctx, def, index)
		if run.ctx.Err() != nil {
			return
		}
		pause := aliasPause
		index = next
		switch {
		case err != nil:
			failures++
			pause = backoff(failures)
			status, output = store.Critical, fmt.Sprintf("Failed to read checks of node %s: %v", def.AliasNode, err)
		case next == 0: // the next read will not wait
			pause = retryMin
			failures = 0
		default:
			failures = 0
		}
		run.metrics.observe(status, false, 0)
		a.mu.Lock()
		if e.run == run {
			a.setStatusLocked(e, status, a.aliasOutput(output))
		}
		a.mu.Unlock()
		t := time.NewTimer(pause)
		select {
		case <-run.ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// mirrorRemote reads once, waiting for a change after index. It returns the index
// to go on with, 0 after an error.
func (a *Agent) mirrorRemote(ctx context.Context, def *CheckDefinition, index store.Index) (status, output string, next store.Index, err error) {
	ctx, cancel := context.WithTimeout(ctx, aliasWait+callTimeout)
	defer cancel()
	checks, next, err := a.cfg.Registrar.WatchNodeChecks(ctx, def.AliasNode, a.tokenOf(def.Token, FromAPI), index, aliasWait)
	if err != nil {
		return "", "", 0, err
	}
	if next < index {
		next = 0 // the catalog was restored: begin again
	}
	var m mirror
	found := def.AliasService == ""
	for _, c := range checks {
		if c.ServiceID == "" || c.ServiceID == def.AliasService {
			found = found || c.ServiceID != ""
			m.take(c)
		}
	}
	if !found { // unless it just has no checks
		node, err := a.cfg.Registrar.NodeServices(ctx, def.AliasNode)
		if err != nil {
			return "", "", 0, err
		}
		if node == nil || !slices.ContainsFunc(node.Services, func(s *store.Service) bool { return s.ID == def.AliasService }) {
			m.missing(def)
		}
	}
	status, output = m.result()
	return status, output, next, nil
}
