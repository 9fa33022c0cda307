package watch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"time"
)

const (
	// wait is how long a query may block. It is sent, so that the bound below holds
	// whatever the agent's own default is.
	wait = 5 * time.Minute
	// answerTimeout bounds a query: its wait, the sixteenth that servers add, and
	// time to answer. Without it a peer that is gone without a word ends a watch.
	answerTimeout = wait + wait/16 + 30*time.Second
	// Waits after failures.
	retryFirst, retryMost = time.Second, time.Minute
	// quiet keeps a watch that is woken for nothing - writes beside what it follows
	// - from asking all the time. Nothing is missed: the next query has the index.
	quiet = 100 * time.Millisecond
	// absent is how often to look for what cannot be waited for because it is not there.
	absent = 5 * time.Second
)

// Value is what a handler gets.
type Value struct {
	Index uint64 // of the answer; 0 where what is watched has none
	JSON  []byte // compact; not to be changed
}

// Options shape a run.
type Options struct {
	// Failed is told of queries that failed and will be repeated after a wait. It
	// ends the run by returning an error. Nil means go on.
	Failed func(err error, again time.Duration) error
	// Recovered is called at the first answer after failures.
	Recovered func()
}

// Get asks once, for the current value. For events these are all that the agent
// still has.
func (p *Plan) Get(ctx context.Context, src Source) (Value, error) {
	a, body, err := p.ask(ctx, src, "", 0)
	if err != nil {
		return Value{}, err
	}
	return Value{a.Index, body}, nil
}

// Run follows the watch until ctx ends or handle returns an error, which it
// returns; a ctx that ended is no error. handle is called with the value at the
// start and each one after it, never twice at a time. It gets ctx.
func (p *Plan) Run(ctx context.Context, src Source, opts Options, handle func(context.Context, Value) error) error {
	f := follower{plan: p, src: src}
	for {
		v, changed, pause, err := f.next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			f.failures++
			pause = backoff(f.failures)
			if opts.Failed != nil {
				if err := opts.Failed(err, pause); err != nil {
					return err
				}
			}
		case f.failures > 0:
			f.failures = 0
			if opts.Recovered != nil {
				opts.Recovered()
			}
		}
		if changed {
			if err := handle(ctx, v); err != nil {
				return err
			}
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

// follower is one run of a plan.
type follower struct {
	plan     *Plan
	src      Source
	index    uint64 // of the last answer; 0: ask without
	hash     string
	began    bool              // there was an answer
	last     [sha256.Size]byte // of the last value
	seen     map[string]bool   // the events of the last answer
	failures int
}

// next asks once. changed says that v is new; pause is how long to wait before
// the next query.
func (f *follower) next(ctx context.Context) (v Value, changed bool, pause time.Duration, err error) {
	a, body, err := f.plan.ask(ctx, f.src, f.hash, f.index)
	if err != nil {
		f.index, f.hash = 0, ""
		return Value{}, false, 0, err
	}
	switch {
	case f.plan.kind.hash:
		// Without a hash there is nothing to wait for.
		if f.hash = a.Hash; f.hash == "" {
			pause = absent
		}
	case a.Index == 0:
		// Asking with 0 would not block, and go round and round.
		f.index = 0
		return Value{}, false, 0, errors.New("the answer has no X-Consul-Index, so it cannot be waited for")
	case a.Index < f.index && !f.plan.kind.events:
		f.index = 0 // the servers were restored; the value is still good
	default:
		f.index = a.Index
	}
	v = Value{a.Index, body}
	if f.plan.kind.events {
		v.JSON, changed, err = f.newEvents(body)
	} else {
		digest := sha256.Sum256(body)
		changed = !f.began || digest != f.last
		f.last = digest
	}
	f.began = true
	if !changed && pause == 0 {
		pause = quiet
	}
	return v, changed, pause, err
}

// newEvents keeps those of a list that were not in the one before. The first list
// is old news.
func (f *follower) newEvents(body []byte) (fresh []byte, any bool, err error) {
	var list []json.RawMessage
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, false, fmt.Errorf("read the answer: %w", err)
	}
	before := f.seen
	f.seen = make(map[string]bool, len(list))
	var out [][]byte
	for _, raw := range list {
		var ev struct{ ID string }
		if err := json.Unmarshal(raw, &ev); err != nil {
			return nil, false, fmt.Errorf("read the answer: %w", err)
		}
		if !before[ev.ID] {
			out = append(out, raw)
		}
		f.seen[ev.ID] = true
	}
	if !f.began || len(out) == 0 {
		return nil, false, nil
	}
	return append(append([]byte{'['}, bytes.Join(out, []byte{','})...), ']'), true, nil
}

// ask sends one query, which blocks if it has a hash or an index.
func (p *Plan) ask(ctx context.Context, src Source, hash string, index uint64) (*Answer, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	q := make(url.Values, len(p.query)+2)
	for k, v := range p.query {
		q[k] = v
	}
	switch {
	case hash != "":
		q.Set("hash", hash)
	case index > 0:
		q.Set("index", strconv.FormatUint(index, 10))
	}
	if hash != "" || index > 0 {
		q.Set("wait", wait.String())
	}
	a, err := src.Get(ctx, p.path, q, p.spec.Token)
	if err != nil {
		return nil, nil, err
	}
	body, err := p.read(a)
	return a, body, err
}

// backoff is how long to wait after the n-th failure in a row.
func backoff(n int) time.Duration {
	d := retryMost
	if n < 8 {
		d = min(d, retryFirst<<(n-1))
	}
	return d/2 + rand.N(d/2)
}

// sleep waits, and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
