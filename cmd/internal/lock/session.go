package lock

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
)

const (
	// sessionTTL is short, so that a holder that died is soon replaced, and long
	// enough to ride out an election.
	sessionTTL = 15 * time.Second
	// renewPause is the time between attempts after a renewal that failed.
	renewPause = time.Second
	// waitTime bounds one blocking read.
	waitTime = 15 * time.Second
	// answerTime bounds requests that do not block, and is added to those that do.
	answerTime = 10 * time.Second
)

var errNoIndex = errors.New("the answer has no X-Consul-Index, so it cannot be waited for")

// session is a session kept alive until stop.
type session struct {
	api  *client.Client
	id   string
	over chan struct{} // closed when it can not be relied on any more
	err  error         // why; set before over is closed

	cancel context.CancelFunc
	done   chan struct{} // closed when keep has returned
}

// newSession creates a session and begins to renew it.
func newSession(ctx context.Context, api *client.Client, name string) (*session, error) {
	var born time.Time
	var made struct{ ID string }
	err := persist(ctx, func() error {
		// Of an attempt whose answer was lost a session may remain: it ends by itself.
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		born = time.Now()
		return api.Put(ctx, "/v1/session/create", nil, map[string]string{"Name": name, "TTL": sessionTTL.String()}, &made)
	})
	if err != nil {
		return nil, fmt.Errorf("create a session: %w", err)
	}
	s := &session{api: api, id: made.ID, over: make(chan struct{}), done: make(chan struct{})}
	var keep context.Context
	keep, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go s.keep(keep, born)
	return s, nil
}

// keep renews the session until ctx ends, or until it is gone or may be gone.
func (s *session) keep(ctx context.Context, renewed time.Time) {
	defer close(s.done)
	var last error
	for pause := sessionTTL / 2; ; {
		end := renewed.Add(sessionTTL)
		wait := min(pause, time.Until(end))
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(wait, 0)):
		}
		began := time.Now()
		if !began.Before(end) {
			if last == nil {
				last = errors.New("this process stood still")
			}
			s.err = fmt.Errorf("the session was not renewed for %s: %w", sessionTTL, last)
			close(s.over)
			return
		}
		err := s.renew(ctx, end)
		switch {
		case err == nil:
			renewed, pause = began, sessionTTL/2
		case client.NotFound(err):
			s.err = errors.New("the session has ended")
			close(s.over)
			return
		case ctx.Err() != nil:
			return
		default:
			last, pause = err, renewPause
		}
	}
}

func (s *session) renew(ctx context.Context, end time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return s.api.Put(ctx, client.Path("v1", "session", "renew", s.id), nil, nil, nil)
}

// stop ends the renewals and the session.
func (s *session) stop(ctx context.Context) error {
	s.cancel()
	<-s.done
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := s.api.Put(ctx, client.Path("v1", "session", "destroy", s.id), nil, nil, nil); err != nil {
		return fmt.Errorf("destroy the session: %w", err)
	}
	return nil
}

// read asks for keys. With an index it blocks until they change or waitTime is
// over. A consistent answer comes from a leader that a quorum has confirmed.
func (s *session) read(ctx context.Context, path string, index uint64, consistent, recurse bool) ([]client.KVPair, uint64, error) {
	q := url.Values{}
	limit := answerTime
	if index > 0 {
		q.Set("index", strconv.FormatUint(index, 10))
		q.Set("wait", waitTime.String())
		limit += waitTime + waitTime/16
	}
	if consistent {
		q.Set("consistent", "")
	}
	if recurse {
		q.Set("recurse", "")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var pairs []client.KVPair
	header, err := s.api.GetHeader(ctx, client.KeyPath(path), q, &pairs)
	if client.NotFound(err) {
		err = nil
	}
	if err != nil {
		return nil, 0, err
	}
	next, err := strconv.ParseUint(header.Get("X-Consul-Index"), 10, 64)
	if err != nil {
		return nil, 0, errNoIndex
	}
	if next < index {
		next = 0 // the store was replaced: begin anew
	}
	return pairs, next, nil
}

// write changes a key and reports whether that was granted.
func (s *session) write(ctx context.Context, method, key string, q url.Values, value []byte) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if method == http.MethodDelete {
		err = s.api.Delete(ctx, client.KeyPath(key), q, &ok)
	} else {
		err = s.api.Put(ctx, client.KeyPath(key), q, value, &ok)
	}
	return ok, err
}

// pause waits, or reports why not.
func (s *session) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.over:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// passing is whether an error may go away by itself: the agent did not answer, or
// answered that it could not now.
func passing(err error) bool {
	var status *client.StatusError
	if !errors.As(err, &status) {
		return !errors.Is(err, errNoIndex)
	}
	if strings.Contains(status.Body, "apply failed: ") {
		return false // the servers have looked at it, and refuse
	}
	return status.Code/100 == 5 || status.Code == http.StatusTooManyRequests
}

// persist repeats what an agent could not do now, such as during an election. An
// agent that does not answer at all is not asked again.
func persist(ctx context.Context, do func() error) error {
	for left := 10; ; left-- {
		err := do()
		var status *client.StatusError
		if err == nil || left == 0 || !errors.As(err, &status) || !passing(err) {
			return err
		}
		t := time.NewTimer(renewPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}
