package dnsapi

import (
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/forwarding/rpc"
)

// Config is what the front end needs.
type Config struct {
	Do         rpc.Doer
	Datacenter string
	Node       string // this agent's
	Domain     string // without the final dot
	AltDomain  string // "" = none
	Token      func() string
	Settings   Settings
	// TranslateWAN answers with WAN addresses for other datacenters.
	TranslateWAN bool
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// Settings is what a reload may change (dns_config).
type Settings struct {
	AllowStale       bool
	MaxStale         time.Duration
	NodeTTL          time.Duration
	ServiceTTL       map[string]time.Duration // name, prefix*, *
	EnableTruncate   bool
	OnlyPassing      bool
	DisableCompress  bool
	UDPAnswerLimit   int
	ARecordLimit     int
	NodeMetaTXT      bool
	SOARefresh       uint32
	SOARetry         uint32
	SOAExpire        uint32
	SOAMinTTL        uint32
	Recursors        []string // host:port
	RecursorTimeout  time.Duration
	RecursorStrategy string // sequential or random
	// UseCache allows stale answers also without AllowStale: as old as CacheMaxAge,
	// 0 = of any age.
	UseCache    bool
	CacheMaxAge time.Duration
	Rate        Rate
}

// DefaultSettings are the spec's (config.md 4).
func DefaultSettings() Settings {
	return Settings{
		AllowStale: true, MaxStale: 87600 * time.Hour, UDPAnswerLimit: 3, NodeMetaTXT: true,
		SOARefresh: 3600, SOARetry: 600, SOAExpire: 86400,
		RecursorTimeout: 2 * time.Second, RecursorStrategy: "sequential",
	}
}

// Server answers questions. Safe for concurrent use.
type Server struct {
	cfg      Config
	zones    []zone // the longest first
	zoneLen  int    // of the longest in wire form
	primary  string // the domain, with the final dot
	settings atomic.Pointer[Settings]
	limiter  atomic.Pointer[limiter] // nil: clients may ask as much as they like
	began    time.Time               // when the server was made
	metrics  *metrics
	cache    cache
	// newRand makes the source of an order; tests fix it.
	newRand func() *rand.Rand
	// plainNames is false if the names of our own could be mistaken for parts of a
	// question, which only the full path tells apart.
	plainNames bool
	complaints complaints
	malformed  perSecond
	listeners
}

// New returns a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	s := &Server{
		cfg: cfg, plainNames: kindOf([]byte(cfg.Datacenter)) == kindNone,
		began:   time.Now(),
		newRand: func() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) },
	}
	s.cache.seed = maphash.MakeSeed()
	s.listeners.init()
	s.metrics = newMetrics(cfg.Registerer, s)
	for i, d := range []string{cfg.Domain, cfg.AltDomain} {
		if d == "" && i > 0 {
			continue
		}
		z, err := newZone(d)
		if err == nil && z.labels == 0 {
			err = errors.New("the root is not ours")
		}
		if err != nil {
			return nil, fmt.Errorf("dns: domain %q: %w", d, err)
		}
		if i == 0 {
			s.primary = z.name
		}
		s.zones = append(s.zones, z)
		s.zoneLen = max(s.zoneLen, len(z.wire))
	}
	slices.SortStableFunc(s.zones, func(a, b zone) int { return b.labels - a.labels })
	s.Reload(cfg.Settings)
	return s, nil
}

// Reload takes new settings for the questions that come from now on. Who has asked
// how much is forgotten if the limit changes.
func (s *Server) Reload(set Settings) {
	if was := s.settings.Swap(&set); was == nil || was.Rate != set.Rate {
		s.limiter.Store(newLimiter(set.Rate))
	}
}

// serviceTTL is the TTL of a service's records: its exact name, then the longest
// prefix that ends in *, then *.
func (set *Settings) serviceTTL(name string) uint32 {
	name = strings.ToLower(name)
	best, ttl := -1, time.Duration(0)
	for pattern, d := range set.ServiceTTL {
		pattern = strings.ToLower(pattern)
		if pattern == name {
			return seconds(d)
		}
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, prefix) && len(prefix) > best {
			best, ttl = len(prefix), d
		}
	}
	return seconds(ttl)
}

// staleness is whether reads may be stale, and by how much; 0 is any age.
func (set *Settings) staleness() (ok bool, most time.Duration) {
	if set.AllowStale {
		most = set.MaxStale
	}
	if set.UseCache && set.CacheMaxAge > 0 && (most == 0 || set.CacheMaxAge < most) {
		most = set.CacheMaxAge
	}
	return set.AllowStale || set.UseCache, most
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
