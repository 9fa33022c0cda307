package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"landbridge/store"
	"landbridge/store/consensus"
)

const (
	bootstrapEvery = 250 * time.Millisecond
	// joinWait bounds how long a server that bootstraps alone waits for the
	// first answer of the addresses it is to join.
	joinWait = 10 * time.Second
	// A promise lasts promiseLife where it was given; who asked for it uses it
	// for bootstrapFor only, counted from before it asked, so that clocks of
	// different speed and slow answers cannot stretch one beyond its end.
	promiseLife  = 10 * time.Second
	bootstrapFor = 3 * time.Second
)

// BootstrapConfig is what a Bootstrapper needs.
type BootstrapConfig struct {
	NodeID  string
	Address string // of this server's Raft
	// Expect is bootstrap_expect; 1 (or -bootstrap) bootstraps alone, 0 never.
	Expect  int
	Members func() []Member
	// Joining reports whether there are addresses to join of which none has
	// answered yet; nil: there are none.
	Joining func() bool
	// Raft returns the servers this one knows as its Raft group: none until it
	// belongs to a cluster.
	Raft func() []consensus.Server
	// Bootstrap makes the first configuration.
	Bootstrap func([]consensus.Server) error
	// Ask has another server's Bootstrapper.Promise called for this server's id,
	// and returns that server's status.
	Ask    func(ctx context.Context, m Member, candidate string) (*store.ServerStatus, error)
	Logger *slog.Logger
}

// Bootstrapper makes the first cluster of a datacenter, at most one. Of the
// servers it knows, the one with the lowest id bootstraps, all of them together,
// when there are as many as expected and each has told that it belongs to no
// cluster and promised to follow nobody else. Servers that see each other
// differently ask at least one in common, which promises to one only.
type Bootstrapper struct {
	cfg BootstrapConfig

	mu      sync.Mutex
	holder  string // who was promised
	expires time.Time

	said string // the last reason for waiting that was logged; Run's own
}

// NewBootstrapper checks the configuration.
func NewBootstrapper(cfg BootstrapConfig) (*Bootstrapper, error) {
	if cfg.NodeID == "" || cfg.Members == nil || cfg.Raft == nil || cfg.Bootstrap == nil || cfg.Ask == nil {
		return nil, errors.New("leader: bootstrap needs NodeID, Members, Raft, Bootstrap and Ask")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Bootstrapper{cfg: cfg}, nil
}

// Promise says that this server lets only candidate bootstrap, for a while. A
// KindConflict error names whom it has promised before. The caller tells the
// candidate this server's status with it.
func (b *Bootstrapper) Promise(candidate string) error {
	if candidate == "" {
		return store.Errorf(store.KindInvalid, "a bootstrap promise needs the candidate's id")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.holder != "" && b.holder != candidate && now.Before(b.expires) {
		return store.Errorf(store.KindConflict, "already promised to server %s", b.holder)
	}
	b.holder, b.expires = candidate, now.Add(promiseLife)
	return nil
}

// Run returns when this server belongs to a cluster: one it made, or one whose
// leader added it. With Expect 0 there is nothing to do.
func (b *Bootstrapper) Run(ctx context.Context) error {
	if b.cfg.Expect <= 0 {
		return nil
	}
	begun := time.Now()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if len(b.cfg.Raft()) > 0 {
			return nil
		}
		waiting, err := b.round(ctx, begun)
		switch {
		case err != nil:
			return err
		case waiting == "":
			return nil
		case waiting != b.said && ctx.Err() == nil:
			b.said = waiting
			b.cfg.Logger.Info("not bootstrapping yet", "reason", waiting)
		}
		t.Reset(bootstrapEvery)
	}
}

// round bootstraps if it may, else returns what it waits for.
func (b *Bootstrapper) round(ctx context.Context, begun time.Time) (waiting string, err error) {
	if b.cfg.Expect == 1 && b.cfg.Joining != nil && b.cfg.Joining() && time.Since(begun) < joinWait {
		return "no address to join has answered", nil
	}
	servers, waiting := b.candidates()
	if waiting != "" {
		return waiting, nil
	}
	start := time.Now()
	if err := b.Promise(b.cfg.NodeID); err != nil {
		return err.Error(), nil
	}
	if waiting := b.ask(ctx, servers); waiting != "" {
		return waiting, nil
	}
	if ctx.Err() != nil || time.Since(start) > bootstrapFor {
		return "the other servers answered too late", nil
	}
	// This server comes first: it campaigns at once.
	conf := []consensus.Server{{ID: b.cfg.NodeID, Address: b.cfg.Address, Voter: true}}
	if b.cfg.Expect > 1 {
		for _, m := range servers {
			if m.Expect != b.cfg.Expect {
				continue // it did not ask for a part in this; the leader adds it
			}
			conf = append(conf, consensus.Server{ID: m.ID, Address: m.RaftAddress(), Voter: true})
		}
	}
	if err := b.cfg.Bootstrap(conf); err != nil {
		if store.KindOf(err) == store.KindConflict {
			return "", nil // a leader was faster
		}
		return "", fmt.Errorf("bootstrap: %w", err)
	}
	b.cfg.Logger.Info("bootstrapped a new cluster", "servers", len(conf))
	return "", nil
}

// candidates returns the other servers to ask, if it is this server's turn.
func (b *Bootstrapper) candidates() (others []Member, waiting string) {
	for _, m := range b.cfg.Members() {
		if !m.Server || m.ID == b.cfg.NodeID || m.Status != Alive {
			continue
		}
		switch {
		case m.ID == "" || m.Port == 0:
			return nil, "the tags of server " + m.Name + " hold no id or port"
		case m.Bootstrap && (b.cfg.Expect > 1 || m.ID < b.cfg.NodeID):
			return nil, "server " + m.Name + " bootstraps alone"
		case b.cfg.Expect > 1 && m.Expect != b.cfg.Expect && m.Expect != 0:
			return nil, fmt.Sprintf("server %s has bootstrap_expect %d and this one %d: all must have the same", m.Name, m.Expect, b.cfg.Expect)
		}
		others = append(others, m)
	}
	slices.SortFunc(others, func(x, y Member) int { return cmp.Compare(x.ID, y.ID) })
	if b.cfg.Expect == 1 {
		return others, ""
	}
	expecting := 1
	for _, m := range others {
		if m.Expect == b.cfg.Expect {
			expecting++
		}
	}
	if expecting < b.cfg.Expect {
		return nil, fmt.Sprintf("%d of %d expected servers are here", expecting, b.cfg.Expect)
	}
	for _, m := range others {
		if m.Expect == b.cfg.Expect && m.ID < b.cfg.NodeID {
			return nil, "server " + m.Name + " has a lower id and bootstraps"
		}
	}
	return others, ""
}

// ask has all other servers promise, and returns why this one may not bootstrap.
func (b *Bootstrapper) ask(ctx context.Context, others []Member) (waiting string) {
	ctx, cancel := context.WithTimeout(ctx, bootstrapFor)
	defer cancel()
	answers := make([]string, len(others))
	var wg sync.WaitGroup
	for i, m := range others {
		wg.Go(func() {
			st, err := b.cfg.Ask(ctx, m, b.cfg.NodeID)
			switch {
			case err != nil:
				answers[i] = fmt.Sprintf("server %s does not agree: %v", m.Name, err)
			case st.ClusterID != "" || st.HasState || len(st.Peers) > 0:
				answers[i] = "server " + m.Name + " belongs to a cluster, whose leader will add this one"
			}
		})
	}
	wg.Wait()
	for _, a := range answers {
		if a != "" {
			return a
		}
	}
	return ""
}
