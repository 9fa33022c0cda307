package rpc

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one call on the server. Most calls never wait
// for it, so its channel and timer are made when somebody does: that saves a
// third of the cost of a small call. It satisfies the AfterFunc method by which
// package context attaches children without a goroutine.
type callContext struct {
	mu       sync.Mutex
	deadline time.Time // zero: none
	err      error     // set once
	done     chan struct{}
	timer    *time.Timer
	after    []*func()
}

var _ context.Context = (*callContext)(nil)

func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }
func (c *callContext) Value(any) any               { return nil }

func (c *callContext) Err() error {
	c.mu.Lock()
	err := c.err
	expired := err == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline)
	c.mu.Unlock()
	if expired {
		c.end(context.DeadlineExceeded)
		return c.Err()
	}
	return err
}

func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		switch {
		case c.err != nil:
			close(c.done)
		case !c.deadline.IsZero():
			c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.end(context.DeadlineExceeded) })
		}
	}
	return c.done
}

// AfterFunc has f called once when c ends, unless stop is called before.
func (c *callContext) AfterFunc(f func()) (stop func() bool) {
	done := c.Done() // starts the timer
	c.mu.Lock()
	if isClosed(done) {
		c.mu.Unlock()
		go f()
		return func() bool { return false }
	}
	p := &f
	c.after = append(c.after, p)
	c.mu.Unlock()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, q := range c.after {
			if q == p {
				c.after = append(c.after[:i], c.after[i+1:]...)
				return true
			}
		}
		return false
	}
}

// end cancels the context; the first error stays.
func (c *callContext) end(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for _, f := range after {
		(*f)()
	}
}
