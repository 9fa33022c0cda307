package leader

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
)

// Leader runs the leader's duties whenever this server leads.
type Leader struct {
	cfg     Config
	metrics *metrics
	pilot   *pilot
	coords  coordinates
	// sessions are kept from the first moment of a leadership: the tasks of a new
	// leader may take long, and renewals must not wait for them.
	sessions *sessions
	asked    chan struct{} // see Alive
}

// New checks the configuration; Run does the work.
func New(cfg Config) (*Leader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Autopilot == (store.AutopilotConfig{}) {
		cfg.Autopilot = DefaultAutopilot()
	}
	l := &Leader{cfg: cfg, metrics: newMetrics(cfg.Registerer), asked: make(chan struct{})}
	l.pilot = newPilot(&l.cfg, l.metrics)
	l.sessions = newSessions(l)
	return l, nil
}

// Run follows leadership until ctx ends. It is called once, after the Raft node
// has started, and waits for what it began.
func (l *Leader) Run(ctx context.Context) error {
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.asked:
		case leads := <-l.cfg.Consensus.Leadership():
			// True may follow true: a term was lost and another won.
			stop()
			stop = func() {}
			if leads {
				stop = l.begin(ctx)
			}
		}
	}
}

// Alive returns when the loop of Run has gone round, which shows that it does.
func (l *Leader) Alive(ctx context.Context) error {
	select {
	case l.asked <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin starts a leadership's work and returns what cancels it and waits.
func (l *Leader) begin(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.lead(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

func (l *Leader) lead(ctx context.Context) {
	l.metrics.terms.Inc()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { l.sessions.run(ctx) })
	if !l.until(ctx, Task{"cluster id", l.identify}) || !l.until(ctx, Task{"autopilot configuration", l.configure}) {
		return
	}
	wg.Go(func() {
		for _, t := range l.cfg.Tasks {
			if !l.until(ctx, t) {
				return
			}
		}
	})
	if l.cfg.ACL != nil {
		wg.Go(func() { l.runACL(ctx) })
	}
	for _, t := range l.cfg.Loops {
		wg.Go(func() {
			for l.until(ctx, t) && sleep(ctx, time.Second) {
			}
		})
	}
	wg.Go(func() { l.coords.run(ctx, l) })
	l.pilot.reset()
	wg.Go(func() { l.pilot.run(ctx) })
	newReconciler(l).run(ctx)
}

// until runs a task until it succeeds; false means that ctx ended first.
func (l *Leader) until(ctx context.Context, t Task) bool {
	pause := backoff{first: 100 * time.Millisecond, last: 15 * time.Second}
	for {
		begun := time.Now()
		err := t.Run(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			l.metrics.tasks.ok.Inc()
			l.cfg.Logger.Debug("leader task done", "task", t.Name, "took", time.Since(begun))
			return true
		}
		l.metrics.tasks.failed.Inc()
		l.cfg.Logger.Warn("leader task failed, will retry", "task", t.Name, "err", err)
		if !sleep(ctx, pause.next()) {
			return false
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// apply writes a command; a refusal of the state machine is an error too.
func (l *Leader) apply(ctx context.Context, kind store.CommandKind, payload []byte) (store.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	res, err := l.cfg.Consensus.Apply(ctx, store.Command{Kind: kind, Payload: payload})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	return res, err
}

// identify gives a new cluster its id, and a recovered one a new history.
func (l *Leader) identify(ctx context.Context) error {
	c, due := l.cfg.State.Cluster(), l.cfg.Consensus.RecoveryDue()
	if c.ID == "" || c.Recoveries < due {
		if c.ID == "" {
			c.ID = newUUID()
		}
		c.HistoryID, c.Recoveries = newUUID(), max(c.Recoveries, due)
		if _, err := l.apply(ctx, store.CmdCluster, c.AppendWire(nil)); err != nil {
			return fmt.Errorf("write the cluster id: %w", err)
		}
		l.cfg.Logger.Info("cluster has an id", "cluster", l.cfg.State.Cluster().ID, "recoveries", c.Recoveries)
	}
	if due == 0 {
		return nil
	}
	// New servers begin with a snapshot. It must count the recovery, or they would
	// be taken for some of the past until they have the log as well.
	if err := l.cfg.Consensus.Raft().Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot after the recovery: %w", err)
	}
	return l.cfg.Consensus.RecoveryDone()
}

// configure stores the configured autopilot settings in a new cluster; later
// they are changed through the API only.
func (l *Leader) configure(ctx context.Context) error {
	if _, conf := l.cfg.State.Autopilot(nil); conf != nil {
		return nil
	}
	cmd := store.AutopilotCommand{Config: l.cfg.Autopilot, CAS: true}
	cmd.Config.CreateIndex, cmd.Config.ModifyIndex = 0, 0
	if _, err := l.apply(ctx, store.CmdAutopilot, cmd.AppendWire(nil)); err != nil {
		return fmt.Errorf("write autopilot's configuration: %w", err)
	}
	return nil
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
