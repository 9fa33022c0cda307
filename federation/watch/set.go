package watch

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxOutput bounds what is logged of a handler's output.
const maxOutput = 4 << 10

// Definition is a watch of the configuration: what to watch, and exactly one
// handler.
type Definition struct {
	Spec
	Args   []string // a program and its arguments
	Script string   // a line for the shell
	HTTP   *Target
}

// Check reports everything that is wrong with a definition.
func (d *Definition) Check() error {
	var errs []error
	if _, err := NewPlan(d.Spec); err != nil {
		errs = append(errs, err)
	}
	handlers := 0
	for _, there := range []bool{len(d.Args) > 0, d.Script != "", d.HTTP != nil} {
		if there {
			handlers++
		}
	}
	switch {
	case handlers == 0:
		errs = append(errs, errors.New("needs a handler: args, handler or http_handler_config"))
	case handlers > 1:
		errs = append(errs, errors.New("only one of args, handler and http_handler_config may be given"))
	}
	if len(d.Args) > 0 && d.Args[0] == "" {
		errs = append(errs, errors.New("args[0] is the program to run, and is empty"))
	}
	if d.HTTP != nil {
		errs = append(errs, d.HTTP.check())
	}
	return errors.Join(errs...)
}

// Set runs the watches of a configuration.
type Set struct {
	src     Source
	log     *slog.Logger
	metrics *metrics
	// handler makes what a definition asks for, and its end; tests replace it.
	handler func(*slog.Logger, *Definition) (handle func(context.Context, Value) error, end func())

	mu      sync.Mutex
	life    context.Context // set by Run; nil before and after
	list    []*follow
	running sync.WaitGroup
}

// follow is one watch of a Set.
type follow struct {
	def  Definition
	plan *Plan
	stop context.CancelFunc // ends the queries, not a handler under way; nil until it runs
}

// NewSet makes a set without watches.
func NewSet(src Source, log *slog.Logger, reg prometheus.Registerer) *Set {
	return &Set{src: src, log: log, metrics: newMetrics(reg), handler: handler}
}

// Replace makes these the watches of the set. One that stays as it is goes on and
// its handler is not run for it; one that is gone asks no more, and a handler of
// it that runs may end by itself: it may be what asked for the new configuration.
// A definition that does not hold is an error, and changes nothing.
func (s *Set) Replace(defs []Definition) error {
	next := make([]*follow, len(defs))
	for i := range defs {
		if err := defs[i].Check(); err != nil {
			return err
		}
		plan, err := NewPlan(defs[i].Spec)
		if err != nil {
			return err
		}
		next[i] = &follow{def: defs[i], plan: plan}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.list
	for i, n := range next {
		for j, o := range old {
			if o != nil && reflect.DeepEqual(o.def, n.def) {
				next[i], old[j] = o, nil
				break
			}
		}
	}
	for _, o := range old {
		if o != nil && o.stop != nil {
			o.stop()
		}
	}
	s.list = next
	s.metrics.watches.Set(float64(len(next)))
	s.start()
	return nil
}

// start runs those that do not run yet. mu is held.
func (s *Set) start() {
	if s.life == nil {
		return
	}
	life := s.life
	for _, f := range s.list {
		if f.stop != nil {
			continue
		}
		ctx, stop := context.WithCancel(life)
		f.stop = stop
		s.running.Go(func() {
			defer stop()
			s.follow(ctx, life, f)
		})
	}
}

// Run follows the watches until ctx ends; handlers that run then are told to end,
// and waited for. It is called once.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	s.life = ctx
	s.start()
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.life = nil // what is set from now on does not run
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// follow runs one watch until ctx ends. Its handler ends with life.
func (s *Set) follow(ctx, life context.Context, f *follow) {
	log := s.log.With("watch", f.plan.String())
	handle, end := s.handler(log, &f.def)
	defer end()
	failing := false
	opts := Options{
		Failed: func(err error, again time.Duration) error {
			s.metrics.errors.Inc()
			level := slog.LevelDebug
			if !failing {
				level, failing = slog.LevelWarn, true
			}
			log.Log(ctx, level, "watch failed, trying again", "err", err, "wait", again)
			return nil
		},
		Recovered: func() {
			failing = false
			log.Info("watch answers again")
		},
	}
	// The handler never returns an error, and neither does Run then.
	_ = f.plan.Run(ctx, s.src, opts, func(_ context.Context, v Value) error {
		start := time.Now()
		err := handle(life, v)
		outcome := "ok"
		if err != nil {
			outcome = "failed"
			if life.Err() == nil {
				log.Error("handler of a watch failed", "index", v.Index, "err", err)
			}
		}
		s.metrics.runs.WithLabelValues(outcome).Inc()
		log.Debug("handler of a watch ran", "index", v.Index, "outcome", outcome, "took", time.Since(start))
		return nil
	})
}

// handler makes the handler of a definition. What a program prints goes to the log.
func handler(log *slog.Logger, d *Definition) (handle func(context.Context, Value) error, end func()) {
	if d.HTTP != nil {
		c := newCaller(*d.HTTP)
		return c.call, c.close
	}
	return func(ctx context.Context, v Value) error {
		out := &head{limit: maxOutput}
		sc := &Script{Args: d.Args, Shell: d.Script, Stdout: out, Stderr: out}
		err := sc.Run(ctx, v)
		if text := out.b.String(); text != "" {
			log.Debug("handler of a watch said", "output", text, "more", out.dropped)
		}
		return err
	}, func() {}
}
