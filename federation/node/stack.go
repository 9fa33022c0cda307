package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// stopStack holds what was started, by name; stop takes it off last-in-first-out.
type stopStack struct {
	log  *slog.Logger
	mu   sync.Mutex
	list []stopStep
}

type stopStep struct {
	name string
	stop func(context.Context) error
}

func (s *stopStack) push(name string, stop func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, stopStep{name, stop})
}

// run starts f in a goroutine of its own that ends when the step is stopped. An
// error other than its context's is given to failed.
func (s *stopStack) run(name string, failed func(error), f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			failed(fmt.Errorf("%s: %w", name, err))
		}
	}()
	s.push(name, func(ctx context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("still running: %w", ctx.Err())
		}
	})
}

// stop ends everything, newest first, and joins the errors. It may be called again.
func (s *stopStack) stop(ctx context.Context) error {
	var errs []error
	for {
		s.mu.Lock()
		n := len(s.list)
		if n == 0 {
			s.mu.Unlock()
			return errors.Join(errs...)
		}
		step := s.list[n-1]
		s.list = s.list[:n-1]
		s.mu.Unlock()
		start := time.Now()
		if err := step.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
		s.log.Debug("stopped", "part", step.name, "took", time.Since(start))
	}
}
