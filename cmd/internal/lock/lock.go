package lock

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync"
	"time"

	"landbridge/cmd/internal/client"
)

// Flags that mark keys as belonging to a lock or a semaphore.
const (
	lockFlags      = 0x2ddccbc058a50c18
	semaphoreFlags = 0xe0f69a2baa414de0
)

const (
	// keyName is the key below the prefix.
	keyName = ".lock"
	// delayPause is the time between attempts during a lock-delay, of which the
	// servers do not say when it ends.
	delayPause = time.Second
	// monitorPause is the time between attempts of a monitor whose reads fail.
	monitorPause = time.Second
)

// Config says what to hold.
type Config struct {
	Client *client.Client
	Prefix string // not empty; without a slash around it
	Limit  int    // holders at a time; all on a prefix use the same
	Name   string // of the session
	// MonitorRetry is how many reads in a row may fail before the lock counts as
	// lost; its session decides, too.
	MonitorRetry int
}

// recipe is how something is acquired, watched and let go for a session.
type recipe interface {
	acquire(ctx context.Context) error
	// holds reads, after a change since index, whether it is still held.
	holds(ctx context.Context, index uint64) (held bool, next uint64, err error)
	release(ctx context.Context) error
	// clean removes what nobody uses any more.
	clean(ctx context.Context) error
}

// Held is a lock that was acquired.
type Held struct {
	cfg    Config
	sess   *session
	recipe recipe

	lost   chan struct{}
	once   sync.Once
	err    error // why; set before lost is closed
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// ErrConflict is wrapped by errors about keys that serve another purpose.
var ErrConflict = errors.New("the key is in use for something else")

// Acquire waits until the lock is held, or ctx ends.
func Acquire(ctx context.Context, cfg Config) (*Held, error) {
	sess, err := newSession(ctx, cfg.Client, cfg.Name)
	if err != nil {
		return nil, err
	}
	h := &Held{cfg: cfg, sess: sess, lost: make(chan struct{})}
	if cfg.Limit > 1 {
		h.recipe = &semaphore{sess: sess, prefix: cfg.Prefix, limit: cfg.Limit}
	} else {
		h.recipe = &mutex{sess: sess, key: path.Join(cfg.Prefix, keyName)}
	}
	if err := h.recipe.acquire(ctx); err != nil {
		// A request that was on its way may still have been carried out.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		return nil, errors.Join(err, h.end(after))
	}
	var mon context.Context
	mon, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	h.done.Go(func() { h.monitor(mon) })
	h.done.Go(func() {
		select {
		case <-sess.over:
			h.lose(sess.err)
		case <-mon.Done():
		}
	})
	return h, nil
}

// Lost is closed when the lock is held no longer.
func (h *Held) Lost() <-chan struct{} { return h.lost }

// Err says why it was lost.
func (h *Held) Err() error {
	<-h.lost
	return h.err
}

func (h *Held) lose(err error) {
	h.once.Do(func() {
		h.err = err
		close(h.lost)
	})
}

// Release lets go of the lock, ends the session and removes what nobody uses.
func (h *Held) Release(ctx context.Context) error {
	h.cancel()
	h.done.Wait()
	return h.end(ctx)
}

func (h *Held) end(ctx context.Context) error {
	var errs []error
	for _, step := range []func(context.Context) error{h.recipe.release, h.sess.stop, h.recipe.clean} {
		errs = append(errs, persist(ctx, func() error { return step(ctx) }))
	}
	return errors.Join(errs...)
}

// monitor watches the lock until ctx ends or it is lost.
func (h *Held) monitor(ctx context.Context) {
	var index uint64
	for left := h.cfg.MonitorRetry; ; {
		held, next, err := h.recipe.holds(ctx, index)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && !held:
			h.lose(errors.New("the servers gave it to others, or took it away"))
			return
		case err == nil:
			index, left = next, h.cfg.MonitorRetry
		case left == 0 || !passing(err):
			h.lose(fmt.Errorf("it can not be watched: %w", err))
			return
		default:
			left--
			index = 0 // look at once, when the agent answers again
			if h.sess.pause(ctx, monitorPause) != nil {
				return // the session's end says the rest
			}
		}
	}
}

// mutex is a lock of one holder.
type mutex struct {
	sess *session
	key  string
}

func (m *mutex) read(ctx context.Context, index uint64, consistent bool) (*client.KVPair, uint64, error) {
	pairs, next, err := m.sess.read(ctx, m.key, index, consistent, false)
	if err != nil || len(pairs) == 0 {
		return nil, next, err
	}
	if p := &pairs[0]; p.Flags == lockFlags {
		return p, next, nil
	}
	return nil, next, fmt.Errorf("%w: %s is no lock", ErrConflict, m.key)
}

func (m *mutex) acquire(ctx context.Context) error {
	var index uint64
	refused := false
	for {
		pair, next, err := m.read(ctx, index, false)
		if err != nil {
			if err := m.sess.retry(ctx, err); err != nil {
				return err
			}
			index = 0
			continue
		}
		if pair != nil && pair.Session != "" && pair.Session != m.sess.id {
			index, refused = next, false
			continue // blocks until it changes
		}
		index = 0
		if refused { // though nobody holds it: its lock-delay is not over
			if err := m.sess.pause(ctx, delayPause); err != nil {
				return err
			}
		}
		q := url.Values{"acquire": {m.sess.id}, "flags": {strconv.FormatUint(lockFlags, 10)}}
		// The end of ctx does not cut it off: it could be carried out after the release,
		// and the end of the session would leave the lock with a lock-delay.
		ok, err := m.sess.write(context.WithoutCancel(ctx), http.MethodPut, m.key, q, nil)
		if ok {
			return ctx.Err()
		}
		refused = err == nil
		if err != nil {
			if err := m.sess.retry(ctx, err); err != nil {
				return err
			}
		}
	}
}

// retry waits after an error that may pass, or returns it.
func (s *session) retry(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, ErrConflict) || !passing(err) {
		return err
	}
	return s.pause(ctx, renewPause)
}

func (m *mutex) holds(ctx context.Context, index uint64) (bool, uint64, error) {
	pair, next, err := m.read(ctx, index, true)
	return pair != nil && pair.Session == m.sess.id, next, err
}

func (m *mutex) release(ctx context.Context) error {
	q := url.Values{"release": {m.sess.id}, "flags": {strconv.FormatUint(lockFlags, 10)}}
	if _, err := m.sess.write(ctx, http.MethodPut, m.key, q, nil); err != nil {
		return fmt.Errorf("release %s: %w", m.key, err)
	}
	return nil // false: it was lost before
}

func (m *mutex) clean(ctx context.Context) error {
	pair, _, err := m.read(ctx, 0, true)
	if err != nil || pair == nil || pair.Session != "" {
		return ignoreConflict(err)
	}
	_, err = m.sess.write(ctx, http.MethodDelete, m.key, url.Values{"cas": {strconv.FormatUint(pair.ModifyIndex, 10)}}, nil)
	return err
}

// ignoreConflict: what is not ours is not ours to remove, and no failure.
func ignoreConflict(err error) error {
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}
