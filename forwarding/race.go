package forwarding

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// maxTries is how many servers one call may be under way to at once.
const maxTries = 4

// race is one call to another datacenter, under way to one server or more. The
// caller's goroutine runs it; healthy calls need no other.
//
//   - A repeatable read is hedged once, when it waited for path.hedgeAfter, within
//     the budget. From then on its server is watched, too.
//   - A repeatable call is sent again, outside the budget, when its server goes
//     silent; one that blocks only when its connection ends, since it may wait long
//     for what is no fault.
//   - What must not be repeated is sent again only if it surely did not leave.
//   - The first answer counts, the other calls are cancelled. An answer that a
//     server could not reach somebody, or has no leader, sends the call elsewhere.
//   - A large answer counts from when its server begins to give it: it is not
//     fetched twice.
//   - While no server shows a sign of life a call waits for path.until, not longer.
type race struct {
	d    *Dispatcher
	path *path
	req  rpc.Request // as it is sent
	m    *rpc.Method

	quick      bool // may be sent twice, and is sent again when its server goes silent
	needLeader bool
	hedged     bool
	mute       bool // it ended without a sign of life of any server in time
	lost       bool // it ended with a server at which it, a blocking query, had been waiting
	fixed      bool // it stays where it is until that connection ends
	resent     int

	start, now time.Time
	judge      time.Time // when those that were pinged beside its server must have answered; zero: none
	timer      *time.Timer
	changed    <-chan struct{} // of path, nil while the call is young
	list       [maxTries]try   // those from n on are free
	n          int
	leaderless time.Time // when a server first said that it knows of no leader; zero: none did
	said       error     // an answer of a server that sent the call elsewhere
}

// try is the call's way to one server.
type try struct {
	rpc.Pending
	server *server
	began  time.Time
	due    time.Time // when it is looked after, zero: never
	took   time.Duration
	conn   knocker // nil while it is being made
	dial   *dial   // of a call in a goroutine of its own
	over   bool
	hedge  bool
	comes  bool // its answer is being fetched
}

// dial is a call whose connection is being made.
type dial struct {
	state atomic.Int32 // 0; dialSent: it may have left; dialGone: it will not
	looks int          // at how long it takes
	via   string       // of the connection; set before the try ends
}

const dialSent, dialGone = 1, 2

func (d *Dispatcher) newRace(p *path, req *rpc.Request, m *rpc.Method) *race {
	r, _ := d.races.Get().(*race)
	if r == nil {
		r = &race{timer: time.NewTimer(time.Hour)}
	}
	blocks := m.Blocking && req.MinIndex > 0
	r.d, r.path, r.req, r.m = d, p, *req, m
	r.req.Hops++
	r.quick = m.Repeatable && !blocks
	r.needLeader = needsLeader(req, m)
	r.hedged, r.mute, r.lost, r.fixed, r.resent, r.n, r.said, r.changed = false, false, false, false, 0, 0, nil, nil
	r.start, r.judge, r.leaderless = time.Now(), time.Time{}, time.Time{}
	r.now = r.start
	return r
}

// free gives up what is still under way.
func (r *race) free() {
	for i := range r.list[:r.n] {
		if t := &r.list[i]; !t.over {
			t.Cancel()
			r.leave(t)
		}
		r.list[i] = try{}
	}
	r.timer.Stop()
	r.req, r.said, r.changed = rpc.Request{}, nil, nil
	r.d.races.Put(r)
}

// leave notes that a try is over.
func (r *race) leave(t *try) {
	t.over, t.took = true, r.now.Sub(t.began)
	t.server.inFlight.Add(-1)
}

// run returns the answer, or why there is none.
func (r *race) run(ctx context.Context) (*rpc.Response, error) {
	if !r.send(ctx, false) {
		return nil, store.Errorf(store.KindUnreachable, "rpc error getting client: no server is reachable")
	}
	for {
		r.arm()
		i, o := 0, rpc.Outcome{}
		select {
		case o = <-r.list[0].Done():
		case o = <-r.list[1].Done():
			i = 1
		case o = <-r.list[2].Done():
			i = 2
		case o = <-r.list[3].Done():
			i = 3
		case <-r.timer.C:
			i = -1
		case <-r.changed:
			i = -1
		case <-ctx.Done():
			return nil, r.ended(ctx)
		}
		r.now = time.Now()
		if i >= 0 && o.Arriving() {
			r.arriving(i)
			continue
		}
		if i >= 0 {
			resp, err := r.list[i].Finish(o)
			if resp, err, done := r.settle(ctx, &r.list[i], resp, err); done {
				return resp, err
			}
			continue
		}
		if err := r.look(ctx); err != nil {
			return nil, err
		}
	}
}

// send begins a try at another server. false: there is none. With hedge only one
// that answers will do.
func (r *race) send(ctx context.Context, hedge bool) bool {
	if r.n == maxTries {
		return false
	}
	s := r.path.pick(r.tried, r.needLeader, r.n == 0)
	if s == nil {
		return false
	}
	t := &r.list[r.n]
	r.n++
	*t = try{server: s, began: r.now, hedge: hedge}
	s.inFlight.Add(1)
	if s.out.Load() && r.changed == nil {
		r.changed = r.path.changes() // has arm watch the limit
	}
	peer := *s.peer.Load()
	conn := r.d.cfg.WAN.Ready(peer)
	client, ok := conn.(beginner)
	if !ok {
		r.apart(ctx, t, peer, conn)
		return true
	}
	t.conn, _ = conn.(knocker)
	switch err := client.Begin(ctx, &r.req, &t.Pending); err {
	case nil:
		if r.quick {
			t.due = r.now.Add(min(s.quietAfter(r.now), r.path.hedgeAfter(r.now)))
		}
	case rpc.ErrNoLane:
		r.apart(ctx, t, peer, conn)
	default:
		t.Handed(func() {})(nil, err)
	}
	return true
}

// beginner is a connection on which calls need no goroutine; *rpc.Client is one.
type beginner interface {
	Begin(ctx context.Context, req *rpc.Request, p *rpc.Pending) error
}

// apart makes a try in a goroutine of its own: it dials, or is too large for a
// lane. It ends with the try.
func (r *race) apart(ctx context.Context, t *try, peer Peer, conn rpc.Doer) {
	ctx, cancel := context.WithCancel(ctx)
	end := t.Handed(cancel)
	req, wan, dial := r.req, r.d.cfg.WAN, new(dial)
	t.dial = dial
	if conn == nil {
		t.due = r.now.Add(t.server.handshakes(r.now) / 2)
	}
	if !r.d.spawn(func(context.Context) {
		if conn == nil {
			var err error
			if conn, err = wan.Dial(ctx, peer); err != nil {
				end(nil, store.Errorf(store.KindUnreachable, "rpc error getting client: %s: %w", peer.Name, err))
				return
			}
		}
		if !dial.state.CompareAndSwap(0, dialSent) {
			end(nil, store.Errorf(store.KindUnreachable, "%s took too long to connect to", peer.Name))
			return
		}
		dial.via = via(conn)
		end(conn.Do(ctx, &req))
	}) {
		end(nil, store.Errorf(store.KindUnreachable, "this agent is stopping"))
	}
}

// arriving keeps the try whose answer is being fetched. The others are given up, and
// their servers may be asked again if that one goes silent.
func (r *race) arriving(i int) {
	r.list[i].comes = true
	n := 0
	for j := range r.list[:r.n] {
		t := &r.list[j]
		if j != i && !t.over {
			t.Cancel()
			r.leave(t)
			continue
		}
		r.list[n] = *t
		n++
	}
	clear(r.list[n:r.n])
	r.n = n
}

func (r *race) tried(s *server) bool {
	for i := range r.list[:r.n] {
		if r.list[i].server == s {
			return true
		}
	}
	return false
}

// waiting says whether some try is under way to a server that is not silent.
func (r *race) waiting() bool {
	for i := range r.list[:r.n] {
		if t := &r.list[i]; !t.over && !t.server.out.Load() {
			return true
		}
	}
	return false
}

// underway counts the tries that may still be answered.
func (r *race) underway() (n int) {
	for i := range r.list[:r.n] {
		if !r.list[i].over {
			n++
		}
	}
	return n
}

// arm sets the timer to when somebody has to be looked after.
func (r *race) arm() {
	next := r.judge
	for i := range r.list[:r.n] {
		t := &r.list[i]
		if !t.over && !t.due.IsZero() && (next.IsZero() || t.due.Before(next)) {
			next = t.due
		}
	}
	if r.changed != nil && !r.fixed && !r.waiting() {
		if end := r.path.limit(r.start, r.now); next.IsZero() || end.Before(next) {
			next = end
		}
	}
	if next.IsZero() {
		r.timer.Stop()
		return
	}
	r.timer.Reset(next.Sub(r.now))
}

// look looks after the tries that are due, and sends the call elsewhere if need be.
// An error ends the call.
func (r *race) look(ctx context.Context) error {
	if r.quick || r.changed != nil || r.list[0].dial != nil {
		r.changed = r.path.changes() // before looking, so that no change is missed
	}
	if !r.judge.IsZero() && !r.judge.After(r.now) {
		r.judge = time.Time{}
		r.path.judge(r.now)
	}
	for i := range r.list[:r.n] {
		t := &r.list[i]
		if t.over || t.due.IsZero() || t.due.After(r.now) {
			continue
		}
		if t.dial != nil {
			r.lookDial(ctx, t)
		} else {
			r.lookCall(ctx, t)
		}
	}
	if r.fixed = !r.waiting() && !r.mayMove(); r.fixed || r.waiting() {
		return nil
	}
	// Every server that it is under way to is silent.
	if r.send(ctx, false) {
		r.resent++
		r.path.resends.Add(1)
		r.d.metrics.resends.Inc()
		return nil
	}
	// The limit may be that of an outage which is just over.
	late := !r.now.Before(r.path.limit(r.start, r.now))
	switch others := r.path.others(r.tried); {
	case r.waiting():
	case others && r.n == maxTries, !others && late:
		r.mute = !others
		return r.verdict(store.Errorf(store.KindUnreachable, "rpc error making call: no server answers"))
	}
	return nil
}

// mayMove is whether the call may be sent to yet another server: it is harmless, or
// what is under way has not left yet, and then it will not.
func (r *race) mayMove() bool {
	if r.quick {
		return true
	}
	for i := range r.list[:r.n] {
		t := &r.list[i]
		if t.over {
			continue
		}
		if t.dial == nil || !t.dial.state.CompareAndSwap(0, dialGone) && t.dial.state.Load() == dialSent {
			return false
		}
	}
	return true
}

// lookDial looks after a try whose connection takes long: other servers are watched,
// the call goes to one of them, and in the end this one is out of the pick.
func (r *race) lookDial(ctx context.Context, t *try) {
	s := t.server
	if t.dial.state.Load() == dialSent {
		// It is there by now, and the call was sent: from here on as any other.
		if t.conn, _ = r.d.cfg.WAN.Ready(*s.peer.Load()).(knocker); t.conn != nil && r.quick {
			t.due, t.dial = r.now.Add(s.quietAfter(r.now)), nil
		} else {
			t.due = time.Time{}
		}
		return
	}
	handshakes := s.handshakes(r.now)
	switch t.dial.looks++; t.dial.looks {
	case 1:
		t.due = r.now.Add(handshakes / 2)
		r.judge = r.path.alert(s, r.now)
	case 2:
		t.due = r.now.Add(handshakes)
		if r.path.others(r.tried) && (r.quick || t.dial.state.CompareAndSwap(0, dialGone)) {
			r.send(ctx, false)
		}
	default:
		t.due = time.Time{}
		r.path.silence(s, t.began, noHandshake)
	}
}

// lookCall looks after a try that was not answered in the usual time.
func (r *race) lookCall(ctx context.Context, t *try) {
	s := t.server
	if s.out.Load() {
		t.due = time.Time{}
		return
	}
	if t.conn == nil {
		t.due = time.Time{}
		return
	}
	if t.due = t.began.Add(s.quietAfter(r.now)); !t.due.After(r.now) {
		found, next := r.path.check(s, t.conn, r.now)
		switch found {
		case mute:
			t.due = time.Time{}
			// Not since the call began: it may have waited for long at a server that was well.
			r.path.silence(s, next, noPong)
			return
		case pinged:
			r.judge = r.path.alert(s, r.now)
		}
		t.due = next
	}
	if at := t.began.Add(r.path.hedgeAfter(r.now)); at.After(r.now) {
		if at.Before(t.due) {
			t.due = at
		}
		return
	}
	if !r.hedged && !t.comes && r.path.others(r.tried) && r.path.budget.take() {
		r.hedged = true
		if r.send(ctx, true) {
			r.path.hedges.Add(1)
			r.d.metrics.hedges.Inc()
		}
	}
}

// settle takes the end of a try: done, with what the call returns, or the call goes
// on at another server.
func (r *race) settle(ctx context.Context, t *try, resp *rpc.Response, err error) (*rpc.Response, error, bool) {
	s := t.server
	r.leave(t)
	answered := err == nil || rpc.Answered(err)
	if answered {
		s.answered.Add(1)
		s.lastAnswer.Store(r.now.UnixNano())
		r.path.back(s)
		if r.quick && t.dial == nil {
			r.path.took.add(t.took)
		}
	}
	if err == nil {
		if r.needLeader && s.leaderless.Load() {
			r.path.setLeaderless(s, false)
		}
		if t.hedge {
			r.path.hedgesWon.Add(1)
		}
		resp.Route = r.route(t)
		return resp, nil, true
	}
	s.failed.Add(1)
	s.lastErr.Store(&failure{err.Error(), r.now})
	kind := store.KindOf(err)
	switch {
	case ctx.Err() != nil || kind == store.KindTimeout:
		return nil, err, true
	case answered && kind == store.KindNoLeader && r.needLeader:
		if r.leaderless.IsZero() {
			r.leaderless = r.now
		}
		r.path.setLeaderless(s, true)
		r.path.seek()
		if r.underway() == 0 && r.path.state.Load() == uint32(BreakerLeaderless) {
			return nil, err, true // the others would say the same
		}
	case !answered && unanswered(err) && !rpc.Stopping(err):
		r.path.silence(s, r.now, err.Error())
	case answered && kind == store.KindNoServers:
		return nil, err, true
	}
	if !retryable(&r.req, r.m, err) {
		return nil, err, true
	}
	if r.m.Blocking && r.req.MinIndex > 0 && t.took > giveUp && errors.Is(err, rpc.ErrLost) {
		r.lost = true // what was found when it came there is no news
		return nil, err, true
	}
	if answered {
		r.said = err
	}
	if r.underway() > 0 {
		r.changed = r.path.changes()
		if r.waiting() {
			return nil, nil, false
		}
	}
	// Silence of all has its limit.
	if answered || r.path.others(r.tried) || r.now.Before(r.path.limit(r.start, r.now)) {
		if r.send(ctx, false) {
			return nil, nil, false
		}
	}
	if r.underway() > 0 {
		return nil, nil, false
	}
	return nil, r.verdict(err), true
}

// verdict is the error of a call that no server took: what one of them said is worth
// more than that others said nothing.
func (r *race) verdict(err error) error {
	if r.said != nil {
		return r.said
	}
	return err
}

// route tells the way of an answer.
func (r *race) route(t *try) string {
	through := ""
	if t.dial != nil {
		through = t.dial.via
	} else if t.conn != nil {
		through = via(t.conn)
	}
	if !r.hedged && r.resent == 0 && r.n == 1 && through == "" {
		return t.server.route
	}
	b := []byte(routeVia(t.server.route, through))
	if r.hedged {
		b = append(b, ", hedged"...)
	}
	if r.resent > 0 {
		b = append(b, ", resent"...)
	}
	if r.n > 1 {
		b = append(b, ", tries="...)
		b = strconv.AppendInt(b, int64(r.n), 10)
	}
	return string(b)
}

// via is the relay that a connection runs through, "" if none.
func via(conn any) string {
	if c, ok := conn.(interface{ Via() string }); ok {
		return c.Via()
	}
	return ""
}

func routeVia(route, through string) string {
	if through == "" {
		return route
	}
	return route + ", via=" + through
}

// ended says that the caller's context is done.
func (r *race) ended(ctx context.Context) error {
	r.now = time.Now()
	err := error(nil)
	for i := range r.list[:r.n] {
		t := &r.list[i]
		if t.over {
			continue
		}
		e := t.Ended(ctx)
		r.leave(t)
		if err == nil {
			err = e
		}
	}
	return err
}

// attempts are the servers that were tried, for the error's text.
func (r *race) attempts() []attempt {
	list := make([]attempt, r.n)
	for i := range list {
		t := &r.list[i]
		if list[i] = (attempt{t.server.name, t.took}); !t.over {
			list[i].took = r.now.Sub(t.began)
		}
	}
	return list
}
