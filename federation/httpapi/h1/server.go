package h1

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is what becomes of a request.
type Kind uint8

const (
	// General requests go to net/http, with their connection.
	General Kind = iota
	// Quick requests end by themselves; their context never does.
	Quick
	// Waiting requests last: their context ends when the client leaves.
	Waiting
)

// Config is what a Server needs. All fields are required.
type Config struct {
	Handler http.Handler
	// Kind tells what becomes of a request, see the package documentation. The
	// target is as the client sent it.
	Kind func(method, target string) Kind
	// HandOver takes a connection that is not served here any more. What was read
	// of it comes first.
	HandOver func(net.Conn)

	ReadTimeout, BodyTimeout, IdleTimeout time.Duration
	Logger                                *slog.Logger
}

// Server serves connections. Its methods may be called concurrently.
type Server struct {
	cfg   Config
	stamp atomic.Pointer[stamp]

	mu        sync.Mutex
	closing   chan struct{} // closed by Shutdown
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	serving   sync.WaitGroup // connections
}

// New returns a server of no listener yet.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, closing: make(chan struct{}), listeners: make(map[net.Listener]struct{}), conns: make(map[*conn]struct{})}
}

// Serve accepts connections until the listener fails or Shutdown closes it, which
// gives http.ErrServerClosed.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	s.mu.Lock()
	if s.closed() {
		s.mu.Unlock()
		return http.ErrServerClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
	}()
	for delay := time.Duration(0); ; {
		nc, err := ln.Accept()
		var again interface{ Temporary() bool }
		switch {
		case err == nil:
			delay = 0
			s.start(nc)
		case s.closed():
			return http.ErrServerClosed
		case errors.As(err, &again) && again.Temporary(): // out of files, say
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.cfg.Logger.Warn("accepting HTTP connections failed, trying again", "err", err, "delay", delay)
			select {
			case <-time.After(delay):
			case <-s.closing:
			}
		default:
			return err
		}
	}
}

func (s *Server) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *Server) start(nc net.Conn) {
	c := &conn{s: s, nc: nc, remote: nc.RemoteAddr().String()}
	c.resp.c = c
	s.mu.Lock()
	if s.closed() {
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.serving.Done()
		defer s.forget(c)
		c.serve()
	}()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Shutdown closes listeners and idle connections, waits for requests under way
// until ctx is done, and closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed() {
		close(s.closing)
	}
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c := range s.conns {
		c.wake()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	return ctx.Err()
}
