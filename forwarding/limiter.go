package forwarding

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/internal/rate"
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// LimitMode is what becomes of requests over a server's limits.
type LimitMode uint8

const (
	LimitDisabled   LimitMode = iota // nothing is counted
	LimitPermissive                  // they run, and are counted and logged
	LimitEnforcing                   // they are refused
)

var limitModes = [...]string{"disabled", "permissive", "enforcing"}

func (m LimitMode) String() string { return limitModes[m] }

// ParseLimitMode reads limits.request_limits.mode.
func ParseLimitMode(s string) (LimitMode, error) {
	for i, name := range limitModes {
		if s == name {
			return LimitMode(i), nil
		}
	}
	return 0, fmt.Errorf("mode must be disabled, permissive or enforcing, is %q", s)
}

// RequestLimits are how many requests a second a server takes from other agents,
// reads and writes apart; at or below 0 is no limit.
type RequestLimits struct {
	Mode                LimitMode
	ReadRate, WriteRate float64
}

// Limiter keeps a server's RequestLimits. It may be used concurrently.
type Limiter struct {
	limits                atomic.Pointer[RequestLimits]
	reads, writes         rate.Bucket
	warned                atomic.Int64 // when it said last that there are too many, Unix nanoseconds
	log                   *slog.Logger
	read, write           [2]prometheus.Counter // over the limit: let through, refused
	readsOver, writesOver *store.Error
}

// NewLimiter returns a limiter.
func NewLimiter(l RequestLimits, log *slog.Logger, reg prometheus.Registerer) *Limiter {
	over := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_forwarding_limited_requests_total",
		Help: "Requests of other agents over limits.request_limits, by operation and whether they were refused.",
	}, []string{"operation", "refused"})
	reg.MustRegister(over)
	pair := func(op string) [2]prometheus.Counter {
		return [2]prometheus.Counter{over.WithLabelValues(op, "false"), over.WithLabelValues(op, "true")}
	}
	x := &Limiter{
		log: log, read: pair("read"), write: pair("write"),
		readsOver:  store.Errorf(store.KindRateLimited, "rate limit exceeded: this server takes no more reads for now, try again later or at another server"),
		writesOver: store.Errorf(store.KindBusy, "rate limit exceeded: the leader takes no more of these for now, try again later"),
	}
	x.Reload(l)
	return x
}

// Reload takes new limits.
func (x *Limiter) Reload(l RequestLimits) { x.limits.Store(&l) }

// Admit returns the error of a request that is not to run: KindRateLimited if
// another server may take it, KindBusy if only the leader could.
func (x *Limiter) Admit(req *rpc.Request) error {
	l := x.limits.Load()
	if l.Mode == LimitDisabled {
		return nil
	}
	m := rpc.Lookup(req.Method)
	if m == nil || !limited(m) {
		return nil
	}
	leader := m.Write || m.Where == rpc.Leader
	bucket, most, over, err := &x.reads, l.ReadRate, &x.read, x.readsOver
	if leader {
		bucket, most, over, err = &x.writes, l.WriteRate, &x.write, x.writesOver
	}
	if bucket.Take(rate.Limit{PerSecond: most, Burst: int(min(most, 1e9))}) {
		return nil
	}
	enforced := l.Mode == LimitEnforcing
	now := time.Now().UnixNano()
	if last := x.warned.Load(); now-last >= int64(time.Second) && x.warned.CompareAndSwap(last, now) {
		x.log.Warn("requests over the limit", "method", m.Name, "peer", req.Peer, "rate", most, "refused", enforced)
	}
	if !enforced {
		over[0].Inc()
		return nil
	}
	over[1].Inc()
	return err
}

// limited is whether limits are about a method: not what keeps the datacenter
// together.
func limited(m *rpc.Method) bool {
	return m.Resource != rpc.ServerResource && m.ID != rpc.Ping && m.ID != rpc.StatusLeader && m.ID != rpc.StatusPeers
}
