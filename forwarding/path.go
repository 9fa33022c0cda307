package forwarding

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

const (
	// maxRemoteCalls bounds the calls to one datacenter that wait at once, those
	// apart that wait for a change there.
	maxRemoteCalls    = 4096
	maxRemoteBlocking = 16384
	// giveUp is how long a call waits while no server of a datacenter shows any sign
	// of life; five round trips if that is longer.
	giveUp = 800 * time.Millisecond
	// hedgeFloor keeps pauses of a busy machine from being taken for slow answers.
	hedgeFloor = 10 * time.Millisecond
	// hedgeUnknown is the wait while nothing is known of the way.
	hedgeUnknown = 250 * time.Millisecond
	// pingMargin is how much later than a hedge a ping goes: QUIC sends again what
	// got lost a round trip, its deviation and 25 ms of the other side's patience after
	// the last packet, and a ping before that would be the last packet.
	pingMargin = 30 * time.Millisecond
	// askedLately is how long after the last call servers are probed that do not answer.
	askedLately = 10 * time.Second
	// leaderGrace is how long, after a server said that its datacenter has no leader, a
	// call waits for one, which a hand-over takes a fraction of; three round trips if
	// that is longer.
	leaderGrace = 400 * time.Millisecond
	// leaderSpread is what those calls are spread over when there is one.
	leaderSpread = 10 * time.Millisecond
)

// path is the way to one datacenter: its servers as calls find them, what answers
// take, and whether calls pass at all.
type path struct {
	d  *Dispatcher
	dc string

	inFlight, blocking atomic.Int64
	lastUse            atomic.Int64 // Unix nanoseconds
	budget             budget
	took               latency
	after              atomic.Int64 // hedgeAfter, and when it is computed again
	afterNext          atomic.Int64
	share              atomic.Int64 // of calls that may be hedged, in hedgeCost-ths; 0 = one

	calls, hedges, hedgesWon, resends, refused atomic.Uint64
	lastErr                                    atomic.Pointer[failure]
	state                                      atomic.Uint32 // a Breaker
	outcomes                                   outcomes

	list atomic.Pointer[roster]

	mu         sync.Mutex
	servers    map[string]*server
	down       *outage       // no server answers
	leaderless *outage       // those that answer have no leader
	asking     bool          // somebody finds out whether there is a leader
	awaiting   int           // calls that wait for one
	found      time.Time     // when a server last told of one, while somebody was asking
	hurry      chan struct{} // tells who asks that the first call waits
	changed    chan struct{} // closed and replaced when anything above changes
}

// roster is the servers of a datacenter as the WAN gave them.
type roster struct {
	peers []Peer // the very slice
	order []*server
}

// outage is a state of a datacenter and when it began.
type outage struct {
	since time.Time
	// noticed is since, or when somebody asked again after a pause: calls wait from
	// then on for a sign of life.
	noticed time.Time
}

type failure struct {
	text string
	at   time.Time
}

// server is one server of another datacenter.
type server struct {
	path *path
	name string
	peer atomic.Pointer[Peer]

	inFlight         atomic.Int64
	answered, failed atomic.Uint64
	lastAnswer       atomic.Int64
	lastErr          atomic.Pointer[failure]
	leaderless       atomic.Bool
	seeking          atomic.Bool // it is asked whether there is a leader
	out              atomic.Bool // mirrors silent
	route            string      // of an answer of it
	rttNow           atomic.Int64
	rttNext          atomic.Int64

	// Guarded by path.mu.
	silent  bool
	since   time.Time // when it went silent last
	flaps   bool      // that was soon after the time before: pings pass, calls do not
	probing bool
	meeting bool // alert has it connected to
	watch   watch
}

// watch is how a server is found silent: it was pinged and is given until a time.
type watch struct {
	conn  knocker
	heard uint64
	until time.Time
}

// knocker is what a connection can tell about the life of its other end;
// *rpc.Client can.
type knocker interface {
	Heard() uint64
	Knock()
	Ping(context.Context) error
}

// path returns the way to a datacenter.
func (d *Dispatcher) path(dc string) *path {
	if v, ok := d.paths.Load(dc); ok {
		return v.(*path)
	}
	p := &path{d: d, dc: dc, servers: map[string]*server{}, changed: make(chan struct{}), hurry: make(chan struct{}, 1), outcomes: d.metrics.datacenter(dc)}
	v, _ := d.paths.LoadOrStore(dc, p)
	return v.(*path)
}

// roster returns the servers, those that left not among them.
func (p *path) roster() []*server {
	peers := p.d.cfg.WAN.Servers(p.dc)
	if r := p.list.Load(); r != nil && len(r.peers) == len(peers) && (len(peers) == 0 || &r.peers[0] == &peers[0]) {
		return r.order
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &roster{peers: peers, order: make([]*server, 0, len(peers))}
	stays := make(map[string]*server, len(peers))
	for _, q := range peers {
		s := p.servers[q.Name]
		if s == nil {
			s = &server{path: p, name: q.Name, route: "server=" + q.Name}
			s.peer.Store(&q)
		}
		if s.peer.Load().Addr != q.Addr && s.silent {
			p.backLocked(s) // another address is another chance
		}
		s.peer.Store(&q)
		stays[q.Name] = s
		r.order = append(r.order, s)
	}
	p.servers = stays
	p.settleLocked()
	p.list.Store(r)
	return r.order
}

// pick chooses a server at random among the best that were not tried: alive and
// answering; then those that gossip thinks failed; then the silent ones, if any is
// better than none. needLeader passes over servers that know of no leader.
func (p *path) pick(tried func(*server) bool, needLeader, any bool) *server {
	order := p.roster()
	var best *server
	bestRank, n := 1<<10, 0
	for _, s := range order {
		rank := 0
		if s.out.Load() {
			if !any {
				continue
			}
			rank = 8
		}
		if s.peer.Load().Doubtful {
			rank += 4
		}
		if needLeader && s.leaderless.Load() {
			rank += 2
		}
		if rank > bestRank || tried != nil && tried(s) {
			continue
		}
		if rank < bestRank {
			bestRank, n = rank, 0
		}
		if n++; n == 1 || rand.N(n) == 0 {
			best = s
		}
	}
	return best
}

// others says whether a server that answers was not tried yet.
func (p *path) others(tried func(*server) bool) bool { return p.pick(tried, false, false) != nil }

// enter counts a call in, unless it would wait for nothing or too many wait
// already. It may wait for a leader itself. leave counts the call out.
func (p *path) enter(ctx context.Context, req *rpc.Request, m *rpc.Method, blocks bool) error {
	now := time.Now()
	asleep := !p.asked(now)
	p.lastUse.Store(now.UnixNano())
	p.calls.Add(1)
	p.budget.earn(max(p.share.Load(), 1))
	n, most := &p.inFlight, int64(maxRemoteCalls)
	if blocks {
		n, most = &p.blocking, maxRemoteBlocking
	}
	if n.Add(1) > most {
		n.Add(-1)
		p.refused.Add(1)
		p.outcomes.refused.Inc()
		return store.Errorf(store.KindRateLimited, "rpc error getting client: dc %q: %d calls wait for it already", p.dc, most)
	}
	if p.state.Load() != uint32(BreakerClosed) {
		if err := p.refuse(ctx, req, needsLeader(req, m), now, asleep); err != nil {
			n.Add(-1)
			p.refused.Add(1)
			p.outcomes.refused.Inc()
			return err
		}
	}
	return nil
}

func (p *path) leave(blocks bool) {
	if blocks {
		p.blocking.Add(-1)
	} else {
		p.inFlight.Add(-1)
	}
}

// refuse is the error of a call that the breaker holds back. While probes sleep,
// since nobody asked for long, they are woken and the call goes on: what was is no
// news of what is.
func (p *path) refuse(ctx context.Context, req *rpc.Request, needLeader bool, now time.Time, asleep bool) error {
	p.mu.Lock()
	down, leaderless := p.down, p.leaderless
	if down != nil && asleep {
		p.down = &outage{since: down.since, noticed: now}
	}
	p.mu.Unlock()
	switch {
	case down != nil && asleep:
		p.wake()
	case down != nil && !now.Before(p.limit(now, now)):
		return store.Errorf(store.KindUnreachable, "rpc error getting client: dc %q unreachable for %s", p.dc, since(down.since, now))
	case leaderless != nil && needLeader && asleep:
		p.seek()
	case leaderless != nil && needLeader && !p.awaitLeader(ctx, req, now):
		return store.Errorf(store.KindNoLeader, "rpc error making call: dc %q: %s for %s", p.dc, store.ErrNoLeader.Message, since(leaderless.since, time.Now()))
	}
	return nil
}

// awaitLeader waits until a server tells of a leader, and false means in vain: the
// grace is over, which began when the call first learned that there is none, or with
// what is known of all servers. Who waits asks nobody: seekLeader does for all.
func (p *path) awaitLeader(ctx context.Context, req *rpc.Request, first time.Time) bool {
	if req.NoHold {
		return false
	}
	now := time.Now()
	rtt := p.rtt(now)
	grace := min(max(leaderGrace, 3*rtt), p.d.cfg.HoldTimeout)
	p.mu.Lock()
	defer p.mu.Unlock()
	end := first.Add(grace)
	if o := p.leaderless; o != nil && o.since.Add(grace-rtt).Before(end) {
		end = o.since.Add(grace - rtt) // all said so a round trip after the first
	}
	if !now.Before(end) {
		return false
	}
	if p.awaiting++; p.awaiting == 1 {
		p.seekLocked()
		select {
		case p.hurry <- struct{}{}:
		default:
		}
	}
	defer func() { p.awaiting-- }()
	t := time.NewTimer(end.Sub(now))
	defer t.Stop()
	for there := false; ; {
		changed := p.changed
		p.mu.Unlock()
		over := false
		select {
		case <-changed:
		case <-t.C:
			over = true
		case <-ctx.Done():
			over = true
		case <-p.d.ctx.Done():
			over = true
		}
		p.mu.Lock()
		switch {
		case over:
			return there && ctx.Err() == nil
		case !there && p.found.After(now):
			there = true
			t.Reset(rand.N(leaderSpread))
		}
	}
}

// since is how long something lasts, for a text.
func since(at, now time.Time) time.Duration {
	d := now.Sub(at)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// rtt is the round trip to a server, 0 if unknown. It is asked for now and then.
func (s *server) rtt(now time.Time) time.Duration {
	at := now.UnixNano()
	if next := s.rttNext.Load(); at >= next && s.rttNext.CompareAndSwap(next, at+int64(250*time.Millisecond)) {
		s.rttNow.Store(int64(s.path.d.cfg.WAN.RTT(s.name)))
	}
	return time.Duration(s.rttNow.Load())
}

// hedgeAfter is how long a repeatable read waits before it is sent to a second
// server: longer than nearly all answers take that no lost packet held up, and 1.2
// round trips.
func (p *path) hedgeAfter(now time.Time) time.Duration {
	at := now.UnixNano()
	if next := p.afterNext.Load(); at < next || !p.afterNext.CompareAndSwap(next, at+int64(100*time.Millisecond)) {
		if d := time.Duration(p.after.Load()); d > 0 {
			return d
		}
	}
	rtt := p.rtt(now)
	share := hedgeShare(p.loss())
	p.share.Store(share)
	d := max(p.took.slow(now, share), rtt+rtt/5, hedgeFloor)
	if rtt == 0 {
		d = max(d, hedgeUnknown)
	}
	p.after.Store(int64(d))
	return d
}

// rtt is the longest round trip to a server that answers, 0 if none is known.
func (p *path) rtt(now time.Time) (rtt time.Duration) {
	for _, s := range p.roster() {
		if !s.out.Load() {
			rtt = max(rtt, s.rtt(now))
		}
	}
	return rtt
}

// loss is the share of packets that get lost on the way to the servers that answer.
func (p *path) loss() float64 {
	sum, n := 0.0, 0
	for _, s := range p.roster() {
		if !s.out.Load() {
			sum += p.d.cfg.WAN.Loss(s.name)
			n++
		}
	}
	return sum / float64(max(n, 1))
}

// quietAfter is how long an answer takes at least before its server is watched:
// well over a round trip, however slow answers have become.
func (s *server) quietAfter(now time.Time) time.Duration {
	rtt := s.rtt(now)
	if rtt == 0 {
		return hedgeUnknown
	}
	return rtt + rtt/5 + pingMargin
}

// patience is how long a server may leave a ping unanswered: 200 ms at least, for
// busy machines.
func (s *server) patience(now time.Time) time.Duration {
	rtt := s.rtt(now)
	return max(200*time.Millisecond, rtt+rtt/2)
}

// handshakes is how long a connection may take before another server is tried as
// well, or this one is out of the pick.
func (s *server) handshakes(now time.Time) time.Duration {
	rtt := s.rtt(now)
	if rtt == 0 {
		return hedgeUnknown
	}
	return max(100*time.Millisecond, 3*rtt)
}

// limit is how long a call that began then may wait for a sign of life of any
// server.
func (p *path) limit(began, now time.Time) time.Time {
	if p.state.Load() == uint32(BreakerUnreachable) {
		p.mu.Lock()
		if p.down != nil {
			began = p.down.noticed // also for calls that waited long before
		}
		p.mu.Unlock()
	}
	return began.Add(max(giveUp, 5*p.rtt(now)))
}

// noteLocked has all look again who wait for a change; mu is held.
func (p *path) noteLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// changes returns the channel that is closed at the next change.
func (p *path) changes() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// silence takes a server out of the pick until it answers a probe. since is when
// that was sent which it did not answer.
func (p *path) silence(s *server, since time.Time, why string) {
	p.mu.Lock()
	if s.silent || p.servers[s.name] != s {
		p.mu.Unlock()
		return
	}
	s.flaps = since.Sub(s.since) < 2*probeEvery
	s.silent, s.since = true, since
	s.watch = watch{}
	p.probeLocked(s)
	p.settleLocked()
	s.out.Store(true) // who sees it knows the limit of an outage, too
	p.noteLocked()
	p.mu.Unlock()
	p.d.metrics.silenced.Inc()
	p.d.cfg.Logger.Warn("server does not answer, others are asked instead", "peer", s.name, "peer_dc", p.dc, "why", why)
	p.d.cfg.WAN.Report(s.name, store.Errorf(store.KindUnreachable, "%s", why))
}

// back puts a server that answers into the pick again.
func (p *path) back(s *server) {
	if !s.out.Load() {
		return
	}
	p.mu.Lock()
	silent := s.silent
	took := time.Since(s.since)
	if silent {
		p.backLocked(s)
	}
	p.mu.Unlock()
	if silent {
		p.d.cfg.Logger.Info("server answers again", "peer", s.name, "peer_dc", p.dc, "after", took.Round(time.Millisecond))
		p.d.cfg.WAN.Report(s.name, nil)
	}
}

func (p *path) backLocked(s *server) {
	s.silent = false
	s.out.Store(false)
	p.settleLocked()
	p.noteLocked()
}

// settleLocked opens and closes the breaker by what is known of the servers; mu is
// held.
func (p *path) settleLocked() {
	silent, leaderless := 0, 0
	var since time.Time
	for _, s := range p.servers {
		switch {
		case s.silent:
			silent++
			if s.since.After(since) {
				since = s.since
			}
		case s.leaderless.Load():
			leaderless++
		}
	}
	all := len(p.servers)
	wasDown, wasLeaderless := p.down, p.leaderless
	switch {
	case all == 0 || silent < all:
		p.down = nil
	case p.down == nil:
		p.down = &outage{since: since, noticed: since}
	}
	switch {
	case all == 0 || p.down != nil || silent+leaderless < all:
		p.leaderless = nil
	case p.leaderless == nil:
		p.leaderless = &outage{since: time.Now(), noticed: time.Now()}
	}
	switch {
	case p.down != nil:
		p.state.Store(uint32(BreakerUnreachable))
	case p.leaderless != nil:
		p.state.Store(uint32(BreakerLeaderless))
	default:
		p.state.Store(uint32(BreakerClosed))
	}
	if (wasDown == nil) != (p.down == nil) || (wasLeaderless == nil) != (p.leaderless == nil) {
		p.d.metrics.breaker(p.dc, p.down != nil, p.leaderless != nil)
		switch {
		case p.down != nil:
			p.d.cfg.Logger.Warn("datacenter is unreachable: requests for it fail at once until a server answers a probe", "peer_dc", p.dc, "servers", all)
		case p.leaderless != nil:
			p.d.cfg.Logger.Warn("datacenter has no leader: only stale reads of it are passed on until it has one", "peer_dc", p.dc)
		default:
			p.d.cfg.Logger.Info("datacenter is reachable", "peer_dc", p.dc)
		}
	}
}

// sign is what a look at a server with an overdue call has found.
type sign uint8

const (
	watched sign = iota // it was pinged before and still has time
	pinged              // it was pinged just now
	mute                // no sign of life since it was pinged
)

// check watches a server with a call that is overdue. at is when to look again, or,
// of one that is mute, when it was pinged.
func (p *path) check(s *server, conn knocker, now time.Time) (found sign, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &s.watch
	patience := s.patience(now)
	switch {
	case s.silent:
		return watched, now.Add(patience)
	case w.conn == conn && now.Before(w.until):
		return watched, w.until
	case w.mute(conn, now, patience):
		return mute, w.until.Add(-patience)
	}
	*w = watch{conn: conn, heard: conn.Heard(), until: now.Add(patience)}
	conn.Knock()
	return pinged, w.until
}

// mute is whether there was no sign of life since the ping. One that is over for long
// says nothing: this agent may have stood still itself.
func (w *watch) mute(conn knocker, now time.Time, patience time.Duration) bool {
	return w.conn == conn && !now.Before(w.until) && w.heard == conn.Heard() && now.Sub(w.until) < patience
}

// alert has the other servers watched as well, and those connected to that are not:
// should all be out of reach, finding that out of one after the other would take too
// long. It returns when judge is due, zero: never.
func (p *path) alert(but *server, now time.Time) (judge time.Time) {
	for _, s := range p.roster() {
		if s == but || s.out.Load() {
			continue
		}
		switch conn := p.d.cfg.WAN.Ready(*s.peer.Load()).(type) {
		case nil:
			p.meet(s, now)
		case knocker:
			if _, at := p.check(s, conn, now); at.After(judge) {
				judge = at
			}
		}
	}
	return judge
}

// judge takes those out of the pick that alert pinged in vain: calls that come to them
// would find out too late, or ping them anew.
func (p *path) judge(now time.Time) {
	for _, s := range p.roster() {
		conn, ok := p.d.cfg.WAN.Ready(*s.peer.Load()).(knocker)
		if !ok || s.out.Load() {
			continue
		}
		patience := s.patience(now)
		p.mu.Lock()
		is, since := s.watch.mute(conn, now, patience), s.watch.until.Add(-patience)
		p.mu.Unlock()
		if is {
			p.silence(s, since, noPong)
		}
	}
}

// meet connects to a server; one that does not answer in time leaves the pick.
func (p *path) meet(s *server, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.meeting || s.silent {
		return
	}
	s.meeting = p.d.spawn(func(ctx context.Context) {
		dialed, cancel := context.WithTimeout(ctx, 2*s.handshakes(now))
		defer cancel()
		_, err := p.d.cfg.WAN.Dial(dialed, *s.peer.Load())
		p.mu.Lock()
		s.meeting = false
		p.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			p.silence(s, now, noHandshake)
		}
	})
}

// Why servers leave the pick.
const (
	noPong      = "a ping was not answered"
	noHandshake = "no answer to a handshake"
)

// budget lets one call in fifty be sent a second time, more on a lossy path.
type budget struct{ credit atomic.Int64 }

const (
	hedgeCost  = 50
	hedgeBurst = 20 * hedgeCost
	// hedgeMost bounds the share of calls that are sent a second time: a third.
	hedgeMost = hedgeCost / 3
)

// hedgeShare is how many of hedgeCost calls may be hedged at a loss of packets: one,
// and those of which the request or the answer got lost; half of the packets that loss is
// a share of are acknowledgements, of which nobody knows. A slow datacenter loses no
// packets, so that its load does not grow.
func hedgeShare(loss float64) int64 {
	return min(1+int64(2*2*loss*hedgeCost), hedgeMost)
}

// earn is called by each call.
func (b *budget) earn(share int64) {
	if b.credit.Load() < hedgeBurst {
		b.credit.Add(share)
	}
}

func (b *budget) take() bool {
	if b.credit.Add(-hedgeCost) < 0 {
		b.credit.Add(hedgeCost)
		return false
	}
	return true
}
