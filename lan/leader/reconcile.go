package leader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"landbridge/store"
)

// Texts of the check serfHealth (spec health-and-anti-entropy.md 3).
const (
	healthName   = "Serf Health Status"
	outputAlive  = "Agent alive and reachable"
	outputFailed = "Agent not live or unreachable"
)

// reconciler makes the catalog and the Raft group follow the members, during
// one leadership. One goroutine runs it.
type reconciler struct {
	*Leader
	// done holds each member as it was when it was last brought up to date. Who
	// is in it and no member any more was reaped: it goes at once.
	done map[string]Member
	// missing is since when a node of the catalog that this leader never saw as
	// a member has been missed.
	missing map[string]time.Time
}

func newReconciler(l *Leader) *reconciler {
	return &reconciler{Leader: l, done: make(map[string]Member), missing: make(map[string]time.Time)}
}

func (r *reconciler) run(ctx context.Context) {
	pause := backoff{first: 500 * time.Millisecond, last: reconcileInterval}
	full := time.NewTimer(0)
	defer full.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-full.C:
			all = true
		case <-r.cfg.MembersChanged:
		case <-r.pilot.wake:
			r.servePilot()
		}
		begun := time.Now()
		err := r.pass(ctx, all)
		if ctx.Err() != nil {
			return
		}
		r.metrics.reconcile.Observe(time.Since(begun).Seconds())
		switch {
		case err != nil:
			r.cfg.Logger.Warn("catalog does not follow the members yet, will retry", "err", err)
			full.Reset(pause.next())
		case all:
			pause.reset()
			full.Reset(reconcileInterval)
		}
	}
}

// servePilot does what autopilot asked for.
func (r *reconciler) servePilot() {
	wiped, gone := r.pilot.take()
	for id := range wiped {
		r.cfg.Logger.Warn("server lost its state; its vote is withdrawn until it has caught up", "id", string(id))
		if err := r.pilot.ap.Load().RemoveServer(id); err != nil {
			r.cfg.Logger.Warn("server without state keeps its vote", "id", string(id), "err", err)
		}
		for name, m := range r.done {
			if m.ID == string(id) {
				delete(r.done, name)
			}
		}
	}
	for _, name := range gone {
		if r.cfg.ForceLeave == nil {
			continue
		}
		r.cfg.Logger.Info("removing failed server", "node", name)
		if err := r.cfg.ForceLeave(name); err != nil {
			r.cfg.Logger.Warn("failed server stays a member", "node", name, "err", err)
		}
	}
}

// pass brings up to date the members that changed, or all.
func (r *reconciler) pass(ctx context.Context, all bool) error {
	members := r.cfg.Members()
	current := make(map[string]bool, len(members))
	var due []Member
	for _, m := range members {
		current[strings.ToLower(m.Name)] = true
		if old, ok := r.done[m.Name]; all || !ok || !old.sameAs(&m) {
			due = append(due, m)
		}
	}
	for name, m := range r.done {
		if !current[strings.ToLower(name)] {
			m.Status = Left
			due = append(due, m)
		}
	}
	var errs []error
	// Servers first, one by one: each change of the group needs the one before.
	for _, m := range due {
		if m.Server {
			if err := r.server(ctx, m, members); err != nil {
				errs = append(errs, fmt.Errorf("server %s: %w", m.Name, err))
			}
		}
	}
	errs = append(errs, r.catalog(ctx, due, current))
	if all {
		errs = append(errs, r.reapUnknown(ctx, current))
	}
	return errors.Join(errs...)
}

// catalog writes what differs about members, many at once: the leader joins
// them into few Raft entries.
func (r *reconciler) catalog(ctx context.Context, due []Member, current map[string]bool) error {
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, parallelWrites)
	var wg sync.WaitGroup
	for _, m := range due {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := r.member(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("node %s: %w", m.Name, err))
				if _, ok := r.done[m.Name]; ok && current[strings.ToLower(m.Name)] {
					delete(r.done, m.Name) // again at the next pass
				}
			case current[strings.ToLower(m.Name)]:
				r.done[m.Name] = m
			default:
				delete(r.done, m.Name)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// member makes the catalog say what gossip says of one member.
func (r *reconciler) member(ctx context.Context, m Member) error {
	switch m.Status {
	case Alive:
		return r.alive(ctx, m)
	case Failed:
		return r.failed(ctx, m)
	case Left:
		return r.left(ctx, m)
	}
	return nil // leaving: it is alive until it has left
}

// node returns the catalog's node of that very name.
func (r *reconciler) node(name string) (*store.Node, []*store.Service) {
	_, n, services := r.cfg.State.NodeServices(nil, name)
	if n == nil || !strings.EqualFold(n.Node, name) {
		return nil, nil // found by an id that reads like the name
	}
	return n, services
}

func (r *reconciler) health(name string) *store.Check {
	_, checks := r.cfg.State.NodeChecks(nil, name)
	for _, c := range checks {
		if c.CheckID == store.SerfHealth && c.ServiceID == "" {
			return c
		}
	}
	return nil
}

func (r *reconciler) alive(ctx context.Context, m Member) error {
	n, services := r.node(m.Name)
	have := r.health(m.Name)
	if n != nil && n.ID != "" && n.ID != m.ID && have != nil && have.Status != store.Critical {
		// Another machine took over the name before gossip saw the first one
		// fail. Names are unique among live members, so that one is gone, and the
		// catalog would refuse the new one as long as the old counts as alive.
		r.cfg.Logger.Info("node has a new id, removing the old one", "node", m.Name, "old", n.ID, "new", m.ID)
		if err := r.write(ctx, store.CmdDeregister, (&store.DeregisterCommand{Node: m.Name}).AppendWire(nil)); err != nil {
			return err
		}
		n, services, have = nil, nil, nil
	}
	want := healthCheck(m.Name, store.Passing, outputAlive)
	cmd := &store.RegisterCommand{
		Node: store.Node{ID: m.ID, Node: m.Name, Address: m.Addr.String(), Datacenter: r.cfg.Datacenter},
		// A node that exists keeps what its agent says of itself; a missing one is
		// created all the same, so that the agent, if faster, is not overwritten.
		SkipNodeUpdate: true,
	}
	changed := n == nil
	if n != nil && (n.ID != m.ID || n.Address != cmd.Node.Address) {
		cmd.SkipNodeUpdate = false
		cmd.Node.TaggedAddresses, cmd.Node.Meta = n.TaggedAddresses, n.Meta
		changed = true
	}
	if !sameHealth(have, want) {
		cmd.Checks = []*store.Check{want}
		changed = true
	}
	old := find(services, store.ServerService)
	if m.Server {
		if svc := consulService(&m); old == nil || !sameServer(old, svc) {
			cmd.Service = svc
			changed = true
		}
	}
	if changed {
		if err := r.write(ctx, store.CmdRegister, cmd.AppendWire(nil)); err != nil {
			return err
		}
	}
	if !m.Server && old != nil && wasServer(old) {
		// It was a server before it was restarted as a client.
		return r.write(ctx, store.CmdDeregister, (&store.DeregisterCommand{Node: m.Name, ServiceID: store.ServerService}).AppendWire(nil))
	}
	return nil
}

func (r *reconciler) failed(ctx context.Context, m Member) error {
	n, _ := r.node(m.Name)
	want := healthCheck(m.Name, store.Critical, outputFailed)
	if n == nil || n.ID != "" && n.ID != m.ID || sameHealth(r.health(m.Name), want) {
		return nil // unknown to the catalog, or a later holder of the name, or known
	}
	r.cfg.Logger.Info("node failed", "node", m.Name)
	cmd := &store.RegisterCommand{
		Node:           store.Node{ID: n.ID, Node: n.Node, Address: n.Address},
		SkipNodeUpdate: true,
		Checks:         []*store.Check{want},
	}
	return r.write(ctx, store.CmdRegister, cmd.AppendWire(nil))
}

func (r *reconciler) left(ctx context.Context, m Member) error {
	n, _ := r.node(m.Name)
	if n == nil || m.ID == r.cfg.NodeID || n.ID != "" && n.ID != m.ID {
		return nil
	}
	r.cfg.Logger.Info("node left", "node", m.Name)
	return r.write(ctx, store.CmdDeregister, (&store.DeregisterCommand{Node: n.Node}).AppendWire(nil))
}

// reapUnknown removes nodes that gossip once vouched for and no longer knows,
// after reapGrace. External nodes never had serfHealth, and stay.
func (r *reconciler) reapUnknown(ctx context.Context, current map[string]bool) error {
	now := time.Now()
	_, nodes := r.cfg.State.Nodes(nil)
	still := make(map[string]bool)
	var errs []error
	for _, n := range nodes {
		key := strings.ToLower(n.Node)
		if current[key] || r.health(n.Node) == nil {
			continue
		}
		still[key] = true
		since, ok := r.missing[key]
		switch {
		case !ok:
			r.missing[key] = now
		case now.Sub(since) >= reapGrace:
			r.cfg.Logger.Info("node is no member any more", "node", n.Node)
			errs = append(errs, r.write(ctx, store.CmdDeregister, (&store.DeregisterCommand{Node: n.Node}).AppendWire(nil)))
		}
	}
	maps.DeleteFunc(r.missing, func(key string, _ time.Time) bool { return !still[key] })
	return errors.Join(errs...)
}

func (r *reconciler) write(ctx context.Context, kind store.CommandKind, payload []byte) error {
	_, err := r.apply(ctx, kind, payload)
	r.metrics.writes.observe(err)
	return err
}

// server makes the Raft group follow one server.
func (r *reconciler) server(ctx context.Context, m Member, members []Member) error {
	if m.ID == "" || m.Port == 0 {
		return errors.New("its tags hold no id or port")
	}
	if m.ID == r.cfg.NodeID {
		return nil
	}
	future := r.cfg.Consensus.Raft().GetConfiguration()
	if err := future.Error(); err != nil {
		return err
	}
	group := make(map[raft.ServerID]raft.Server)
	for _, s := range future.Configuration().Servers {
		group[s.ID] = s
	}
	have, in := group[raft.ServerID(m.ID)]
	switch m.Status {
	case Left:
		if !in || aliveElsewhere(m, members) {
			return nil
		}
		r.cfg.Logger.Info("server left, removing it from raft", "node", m.Name)
		return r.pilot.ap.Load().RemoveServer(raft.ServerID(m.ID))
	case Alive:
	default:
		return nil // autopilot decides about failed ones
	}
	if in && string(have.Address) == m.RaftAddress() {
		return nil
	}
	if m.Bootstrap && r.cfg.Bootstrap {
		return errors.New("it bootstraps, and so does this server: only one may (start it without -bootstrap)")
	}
	if err := r.foreign(ctx, m); err != nil {
		return err
	}
	// A known name with a new id is a machine that lost its state: the old id's
	// vote goes first.
	if n, _ := r.node(m.Name); n != nil && n.ID != m.ID {
		if _, ok := group[raft.ServerID(n.ID)]; ok && !memberWithID(n.ID, members) {
			r.cfg.Logger.Info("server came back with a new id, removing the old one from raft", "node", m.Name, "old", n.ID)
			if err := r.pilot.ap.Load().RemoveServer(raft.ServerID(n.ID)); err != nil {
				return err
			}
		}
	}
	r.cfg.Logger.Info("adding server to raft", "node", m.Name, "id", m.ID, "address", m.RaftAddress())
	return r.pilot.ap.Load().AddServer(&autopilot.Server{
		ID: raft.ServerID(m.ID), Name: m.Name, Address: raft.ServerAddress(m.RaftAddress()), RaftVersion: 3,
	})
}

// foreign refuses a server whose state is no beginning of ours: in the group it
// would be a second source of the log, or drop what it acknowledged. One that does
// not answer has to wait: Raft would not get through to it either.
func (r *reconciler) foreign(ctx context.Context, m Member) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := r.cfg.ServerStatus(ctx, m)
	if err != nil {
		return fmt.Errorf("it does not tell what state it has: %w", err)
	}
	ours := r.cfg.State.Cluster()
	ours.Recoveries = max(ours.Recoveries, r.cfg.Consensus.RecoveryDue())
	switch {
	case st.ClusterID == "":
	case st.ClusterID != ours.ID:
		return fmt.Errorf("it belongs to another cluster of the same datacenter name (%s, this one is %s): remove its state first, or give its datacenter another name", st.ClusterID, ours.ID)
	case st.Recoveries < ours.Recoveries:
		return fmt.Errorf("it holds a past that this group has left by recovery %d: run `landbridge operator raft forget -yes` there", ours.Recoveries)
	case st.Recoveries > ours.Recoveries:
		return fmt.Errorf("it is of a group that recovery %d made without this server", st.Recoveries)
	}
	return nil
}

// aliveElsewhere reports whether the id lives on under another name: a rename.
func aliveElsewhere(m Member, members []Member) bool {
	for _, o := range members {
		if o.ID == m.ID && o.Name != m.Name && o.Status == Alive {
			return true
		}
	}
	return false
}

func memberWithID(id string, members []Member) bool {
	for _, m := range members {
		if m.ID == id && m.Status == Alive {
			return true
		}
	}
	return false
}

func healthCheck(node, status, output string) *store.Check {
	return &store.Check{Node: node, CheckID: store.SerfHealth, Name: healthName, Status: status, Output: output}
}

func sameHealth(have, want *store.Check) bool {
	return have != nil && have.Status == want.Status && have.Output == want.Output && have.Name == want.Name
}

func find(services []*store.Service, id string) *store.Service {
	for _, s := range services {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// consulService is what the catalog shows of a server.
func consulService(m *Member) *store.Service {
	meta := map[string]string{
		"version":               version(m.Tags),
		"raft_version":          m.Tags["raft_vsn"],
		"serf_protocol_current": strconv.Itoa(int(m.ProtocolCur)),
		"serf_protocol_min":     strconv.Itoa(int(m.ProtocolMin)),
		"serf_protocol_max":     strconv.Itoa(int(m.ProtocolMax)),
		"non_voter":             "false",
		"read_replica":          "false",
	}
	for _, key := range []string{"grpc_port", "grpc_tls_port"} {
		if v := m.Tags[key]; v != "" {
			meta[key] = v
		}
	}
	return &store.Service{
		Node: m.Name, ID: store.ServerService, Name: store.ServerService, Port: int(m.Port), Meta: meta,
		Weights: store.Weights{Passing: 1, Warning: 1},
	}
}

// sameServer compares what consulService fills.
func sameServer(x, y *store.Service) bool {
	return x.Name == y.Name && x.Port == y.Port && x.Weights == y.Weights && maps.Equal(x.Meta, y.Meta) &&
		x.Address == y.Address && len(x.Tags) == 0
}

// wasServer tells the service a leader wrote from one an agent registered.
func wasServer(s *store.Service) bool {
	return s.Name == store.ServerService && s.Meta["raft_version"] != ""
}
