package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"landbridge/store"
)

// Config is what a Follower needs.
type Config struct {
	Source Source
	Sink   Sink
	Kinds  []Kind // in the order in which rows are written
	// Guard is asked at each decision: it may be reconfigured.
	Guard func() Guard
	// Silence is how long a source may say nothing; 0: 15 seconds.
	Silence time.Duration
	// Backoff is the longest pause after errors; 0: one minute for refusals, 1 s
	// while the source cannot be reached, so that a cut ends when it ends.
	Backoff time.Duration
	Logger  *slog.Logger
	Metrics *Metrics
}

const (
	defaultSilence = 15 * time.Second
	defaultBackoff = time.Minute
	reachBackoff   = time.Second
	firstBackoff   = 100 * time.Millisecond
	// answerTime bounds a question of a comparison.
	answerTime = 30 * time.Second
	// rewound is how long a source must say that it is behind its copy until that is
	// believed: a server that lags behind its leader would say so for a moment.
	rewound = 2 * time.Second
	// persistEvery is how often the position is written when nothing else is.
	persistEvery = 5 * time.Minute
	// streamLife ends a stream in good order, to begin anew with another server.
	streamLife = 30 * time.Minute
)

// Follower keeps a Sink equal to its Source.
type Follower struct {
	cfg Config
	// turn is held by whoever reads and writes the sink. It guards what follows.
	turn   chan struct{}
	cur    Cursor
	held   map[Key]bool
	behind time.Time // since when the source says that it is behind
	stored time.Time // when the cursor was written
	again  bool      // compare before following
	cancel context.CancelCauseFunc

	status status
}

// New returns a Follower; Run does the work.
func New(cfg Config) *Follower {
	if cfg.Silence <= 0 {
		cfg.Silence = defaultSilence
	}
	if cfg.Backoff <= 0 {
		cfg.Backoff = defaultBackoff
	}
	if cfg.Guard == nil {
		cfg.Guard = func() Guard { return DefaultGuard }
	}
	f := &Follower{cfg: cfg, turn: make(chan struct{}, 1), held: map[Key]bool{}}
	cfg.Metrics.follow(f)
	return f
}

// errors that end a stream, and are not the source's fault.
var (
	errCompare = errors.New("the copy has to be compared")
	errSilent  = errors.New("the source has been silent for too long")
	errStale   = errors.New("the source is behind what was copied from it already: it answers with an old state")
)

// Run follows until ctx ends. It begins at the Sink's cursor, and may be called
// again after it has returned, once this server may write again.
func (f *Follower) Run(ctx context.Context) {
	if err := f.take(ctx); err != nil {
		return
	}
	f.begin()
	f.give()
	defer f.status.end()
	pause := firstBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := f.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = firstBackoff
			continue
		}
		f.status.failed(err)
		f.cfg.Metrics.errors.Inc()
		f.cfg.Logger.Warn("replication was interrupted, will go on", "err", err)
		most := f.cfg.Backoff
		switch store.KindOf(err) {
		case store.KindUnreachable, store.KindTimeout, store.KindNoLeader, store.KindNoServers, store.KindMaybeApplied:
			most = min(most, reachBackoff)
		}
		if errors.Is(err, errStale) || errors.Is(err, errSilent) {
			most = min(most, reachBackoff)
		}
		if time.Since(began) > most {
			pause = firstBackoff
		}
		pause = min(pause, most)
		t := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		pause *= 2
	}
}

// begin takes up where the sink is.
func (f *Follower) begin() {
	f.cur, f.held, f.behind = f.cfg.Sink.Cursor(), map[Key]bool{}, time.Time{}
	f.again = f.cur.Epoch == Epoch{} || f.cur.Fence != "" // what is held has to be found again
	f.stored = time.Now()
	f.status.begin(f.cur)
}

func (f *Follower) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Follower) give() { <-f.turn }

// round compares if there is a reason to, and follows until the stream ends.
func (f *Follower) round(ctx context.Context) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	if f.again {
		if err := f.compare(ctx); err != nil {
			f.give()
			return err
		}
		f.again = false
	}
	from := f.cur
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.cancel = cancel
	f.give()
	// A frozen source says nothing, and neither does a path that was cut.
	watchdog := time.AfterFunc(f.cfg.Silence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	life := time.AfterFunc(streamLife+rand.N(streamLife/4), func() { cancel(nil) })
	defer life.Stop()
	err := f.cfg.Source.Follow(ctx, from, func(b *Batch) error {
		watchdog.Reset(f.cfg.Silence)
		if err := f.take(ctx); err != nil {
			return err
		}
		defer f.give()
		defer watchdog.Reset(f.cfg.Silence) // writing is not the source's silence
		return f.receive(ctx, b)
	})
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, errCompare) || errors.Is(cause, errCompare):
		return nil // the next round does
	case errors.Is(cause, errSilent):
		return fmt.Errorf("%w (%s)", errSilent, f.cfg.Silence)
	case ctx.Err() != nil && errors.Is(cause, context.Canceled):
		return nil // its life was over
	}
	return err
}

// receive takes one batch of the stream. The caller has the turn.
func (f *Follower) receive(ctx context.Context, b *Batch) error {
	if f.again {
		return errCompare // what is held is not known before that
	}
	if b.Lost || b.Epoch != f.cur.Epoch {
		if b.Epoch == f.cur.Epoch && b.Position < f.cur.Position {
			if f.behind.IsZero() {
				f.behind = time.Now()
			}
			if time.Since(f.behind) < rewound {
				return errStale
			}
		}
		f.again = true
		return errCompare
	}
	f.behind = time.Time{}
	next := f.cur
	next.Position = max(b.Position, f.cur.Position)
	if b.Marked {
		next.Marks = b.Marks
	}
	if len(b.Rows) > 0 {
		for i := range b.Rows {
			delete(f.held, b.Rows[i].Key)
		}
		if len(f.held) == 0 {
			next.Fence = ""
		}
		if err := f.apply(ctx, b.Rows, next); err != nil {
			return err
		}
		f.cfg.Metrics.events.Add(float64(len(b.Rows)))
	} else if next != f.cur {
		if time.Since(f.stored) > persistEvery {
			if err := f.apply(ctx, nil, next); err != nil {
				return err
			}
		}
		f.cur = next
	}
	f.status.heard(f.cur, max(b.Top, next.Position))
	if len(b.Proof) > 0 && !f.proven(b.Proof) {
		f.again = true
		return errCompare
	}
	return nil
}

// apply writes rows and the cursor, which is ours from then on.
func (f *Follower) apply(ctx context.Context, rows []Row, next Cursor) error {
	refused, err := f.cfg.Sink.Apply(ctx, rows, next)
	if err != nil {
		return fmt.Errorf("write the copy: %w", err)
	}
	for _, r := range refused {
		f.cfg.Logger.Warn("a row of the source was refused here", "id", r.ID, "err", r.Err)
	}
	f.cfg.Metrics.refused.Add(float64(len(refused)))
	f.cur, f.stored = next, time.Now()
	f.status.wrote(f.cur, refused, f.heldKeys())
	return nil
}

// proven compares roots with what is here. Rows that are held back do not count:
// the source does not have them.
func (f *Follower) proven(roots []Root) bool {
	equal := true
	for _, r := range roots {
		here := f.tree(r.Kind, int(r.Bits))
		if here.Hash != r.Hash || here.Count != r.Count {
			equal = false
			f.cfg.Metrics.drifts.Inc()
			f.cfg.Logger.Warn("the copy differs from its source, will be compared", "kind", r.Kind, "rows", here.Count, "source", r.Count)
		}
	}
	if equal {
		f.status.proved(time.Now())
		f.cfg.Metrics.proofs.Inc()
	}
	return equal
}

func (f *Follower) tree(kind Kind, bits int) Tree {
	return BuildTree(kind, bits, func(each func(string, Digest)) {
		f.cfg.Sink.Scan(kind, func(id string, d Digest) {
			if !f.held[Key{kind, id}] {
				each(id, d)
			}
		})
	})
}

// Compare has everything compared now, whatever the stream says.
func (f *Follower) Compare(ctx context.Context) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.give()
	f.restart()
	return nil
}

// restart ends the stream; the next round compares. The caller has the turn.
func (f *Follower) restart() {
	f.again = true
	if f.cancel != nil {
		f.cancel(errCompare)
	}
}
