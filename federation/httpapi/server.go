package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"landbridge/federation/httpapi/h1"
	"landbridge/store"
)

const (
	readHeaderTimeout = 10 * time.Second
	// idleTimeout outlasts the pools of common clients (90 s), so that it is they
	// who close a connection nobody uses.
	idleTimeout = 5 * time.Minute
)

// Server answers the HTTP API. It is an http.Handler, and serves listeners.
type Server struct {
	cfg     Config
	live    atomic.Pointer[Reloadable]
	table   *table
	extra   []extraHeader
	policy  []string // the value of X-Consul-Default-ACL-Policy
	metrics *metrics

	// stopping ends first when stopping: blocking queries and streams end with it,
	// while other requests are let finish.
	stopping context.Context
	stop     context.CancelCauseFunc
	// Plain connections begin with simple, and go on with plain when a request
	// is not.
	simple *h1.Server
	handed handover
	plain  *http.Server
	secure *http.Server
	// Connections by client, for HTTP and HTTPS each, over all their listeners.
	plainConns, secureConns connections
	bodies                  atomic.Int64 // bytes of large bodies in memory
}

type extraHeader struct {
	name  string
	value []string
}

// New checks the configuration and returns a server that listens nowhere yet.
func New(cfg Config) (*Server, error) {
	var missing []error
	for name, absent := range map[string]bool{
		"Do": cfg.Do == nil, "Agent": cfg.Agent == nil, "Local": cfg.Local == nil, "Datacenter": cfg.Datacenter == "",
		"NodeName": cfg.NodeName == "", "Logger": cfg.Logger == nil, "Registerer": cfg.Registerer == nil,
	} {
		if absent {
			missing = append(missing, fmt.Errorf("httpapi: Config.%s is required", name))
		}
	}
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	if cfg.KVMaxValueSize <= 0 {
		cfg.KVMaxValueSize = 512 << 10
	}
	if cfg.TxnMaxReqLen <= 0 {
		cfg.TxnMaxReqLen = cfg.KVMaxValueSize
	}
	if cfg.DefaultQueryTime <= 0 {
		cfg.DefaultQueryTime = store.DefaultQueryTime
	}
	if cfg.MaxQueryTime <= 0 {
		cfg.MaxQueryTime = store.MaxQueryTime
	}
	s := &Server{cfg: cfg, table: newTable(), policy: allow}
	if cfg.ACL != nil && cfg.DefaultDeny {
		s.policy = denyPolicy
	}
	s.metrics = newMetrics(cfg.Registerer, s.table)
	for k, v := range cfg.ResponseHeaders {
		s.extra = append(s.extra, extraHeader{textproto.CanonicalMIMEHeaderKey(k), []string{v}})
	}
	s.Reload(cfg.Reloadable)
	s.stopping, s.stop = context.WithCancelCause(context.Background())
	s.plainConns.init(s, true)
	s.secureConns.init(s, false)
	server := func(handshake time.Duration) *http.Server {
		return &http.Server{
			Handler: s,
			// net/http takes the header time-out for TLS handshakes as well.
			ReadHeaderTimeout: handshake,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    cfg.MaxHeaderBytes,
			// What clients do wrong on a connection is theirs to see.
			ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		}
	}
	s.plain = server(readHeaderTimeout)
	s.handed.init()
	s.simple = h1.New(h1.Config{Handler: s, Kind: s.kind, HandOver: s.handOver,
		ReadTimeout: readHeaderTimeout, BodyTimeout: bodyTimeout, IdleTimeout: idleTimeout, Logger: cfg.Logger})
	handshake := cfg.TLSHandshakeTimeout
	if handshake <= 0 {
		handshake = 5 * time.Second
	}
	s.secure = server(handshake)
	return s, nil
}

// Reload replaces the settings that can change while serving.
func (s *Server) Reload(r Reloadable) { s.live.Store(&r) }

// Serve answers HTTP/1.1 on a listener until Stop, and closes it.
func (s *Server) Serve(ln net.Listener) error {
	s.handed.serve.Do(func() {
		s.handed.serving.Go(func() { s.handed.err = served(s.plain.Serve(&s.handed)) })
	})
	return served(s.simple.Serve(s.plainConns.limit(ln)))
}

// ServeTLS answers HTTPS, with HTTP/2 for clients that ask for it.
func (s *Server) ServeTLS(ln net.Listener, cfg *tls.Config) error {
	cfg = cfg.Clone()
	if len(cfg.NextProtos) == 0 {
		cfg.NextProtos = []string{"h2", "http/1.1"}
	}
	// TLS is made here and not by http.Server, whose configuration is one for all
	// listeners.
	return served(s.secure.Serve(tls.NewListener(s.secureConns.limit(ln), cfg)))
}

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Stop ends blocking queries with an error, lets other requests finish until ctx
// is done, and closes what is left.
func (s *Server) Stop(ctx context.Context) error {
	s.stop(errors.New("the agent is stopping"))
	var errs []error
	// First, since it hands connections to the next.
	if err := s.simple.Shutdown(ctx); err != nil {
		errs = append(errs, err)
	}
	for _, srv := range []*http.Server{s.plain, s.secure} {
		if err := srv.Shutdown(ctx); err != nil {
			errs = append(errs, err, srv.Close())
		}
	}
	s.handed.serving.Wait()
	return errors.Join(append(errs, s.handed.err)...)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := calls.Get().(*call)
	*c = call{s: s, w: w, r: r, live: s.live.Load(), status: http.StatusOK}
	fam, seconds := famOther, &s.metrics.other
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				s.cfg.Logger.Error("request handler panicked", "family", fam.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler) // the answer may be half out: net/http closes the connection
		}
		if c.waits() {
			seconds = nil
		}
		s.metrics.observe(fam, c.status, seconds, time.Since(start))
		if c.held != 0 {
			s.bodies.Add(-c.held)
		}
		*c = call{}
		calls.Put(c)
	}()
	h := w.Header()
	for i := range s.extra {
		h[s.extra[i].name] = s.extra[i].value
	}

	raw := r.URL.RawPath
	if raw == "" {
		raw = r.URL.Path
	}
	if dirty(raw) {
		c.redirect(cleanPath(raw))
		return
	}
	if !s.cfg.AllowUnprintable && unprintable(r.URL.Path) {
		c.fail(badRequest("Invalid URL path: it has characters that cannot be printed"))
		return
	}
	if !s.permitted(c, raw) {
		return
	}
	ep, n := s.table.find(raw)
	if ep == nil {
		s.outside(c, raw)
		return
	}
	fam = ep.family
	h[hPolicy], h[hVary] = s.policy, vary
	c.ep = ep
	c.rest = raw[n:]
	if r.URL.RawPath != "" {
		rest, err := url.PathUnescape(c.rest)
		if err != nil {
			c.fail(badRequest("Invalid URL path: %w", err))
			return
		}
		c.rest = rest
	}
	serve, timing := ep.handler(r.Method)
	if serve == nil {
		h[hAllow] = ep.allow
		if r.Method == http.MethodOptions {
			c.send(http.StatusOK, typeJSON, nil)
			return
		}
		c.fail(&statusError{http.StatusMethodNotAllowed, "method " + r.Method + " not allowed"})
		return
	}
	seconds = timing
	if r.URL.RawQuery != "" {
		c.p.parse(r.URL.RawQuery)
	}
	if err := c.enterprise(); err != nil {
		c.fail(err)
		return
	}
	if c.token = secret(r, &c.p); c.token == "" && s.cfg.DefaultToken != nil {
		c.token = s.cfg.DefaultToken()
	}
	if err := c.guarded(ep.guard); err != nil {
		c.fail(err)
		return
	}
	if c.waits() {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(s.stopping, func() { cancel(context.Cause(s.stopping)) })()
		c.r = r.WithContext(ctx)
	}
	if err := serve(c); err != nil {
		c.fail(err)
	}
}

// waits is whether the request may last as long as its client likes: its duration
// says nothing about us, and stopping does not wait for it.
func (c *call) waits() bool { return c.p.index != "" || c.p.hash != "" || c.ep != nil && c.ep.stream }

// permitted applies http_config.block_endpoints and allow_write_http_from.
func (s *Server) permitted(c *call, raw string) bool {
	for _, prefix := range s.cfg.BlockEndpoints {
		if strings.HasPrefix(raw, prefix) || strings.HasPrefix(c.r.URL.Path, prefix) {
			c.fail(&statusError{http.StatusForbidden, "Endpoint is blocked by agent configuration"})
			return false
		}
	}
	if len(s.cfg.AllowWriteFrom) == 0 || c.r.Method == http.MethodGet || c.r.Method == http.MethodOptions {
		return true
	}
	if from, err := netip.ParseAddrPort(c.r.RemoteAddr); err == nil {
		ip := from.Addr().Unmap()
		for _, p := range s.cfg.AllowWriteFrom {
			if p.Contains(ip) {
				return true
			}
		}
	}
	c.fail(&statusError{http.StatusForbidden, "Access is restricted"})
	return false
}

// enterprise refuses namespaces and partitions, which are not part of this
// interface: ignoring them would act in the wrong place (spec http-common 12).
func (c *call) enterprise() error {
	if c.ep.scope&noNamespace != 0 {
		if c.p.ns != "" {
			return badRequest(`Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`)
		}
		if v := c.r.Header["X-Consul-Namespace"]; len(v) > 0 && v[0] != "" {
			return badRequest(`Invalid header: "X-Consul-Namespace" - Namespaces are a Consul Enterprise feature`)
		}
	}
	if c.ep.scope&noPartition != 0 {
		if c.p.partition != "" {
			return badRequest(`Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature`)
		}
		if v := c.r.Header["X-Consul-Partition"]; len(v) > 0 && v[0] != "" {
			return badRequest(`Invalid header: "X-Consul-Partition" - Partitions are a Consul Enterprise feature`)
		}
	}
	return nil
}

// outside answers paths that are no endpoint.
func (s *Server) outside(c *call, raw string) {
	switch {
	case s.table.prefixes[raw+"/"] != nil:
		c.redirect(raw + "/")
	case strings.HasPrefix(raw, "/v1/"):
		c.send(http.StatusNotFound, typeError, []byte(errUnknownAPI))
	case raw == "/metrics" && s.cfg.Gatherer != nil:
		if c.r.Method != http.MethodGet {
			c.w.Header()[hAllow] = []string{"OPTIONS,GET"}
			c.fail(&statusError{http.StatusMethodNotAllowed, "method " + c.r.Method + " not allowed"})
			return
		}
		if c.outsideGuard(readAgent) {
			s.metrics.show(c)
		}
	case strings.HasPrefix(raw, "/debug/pprof/") && (c.live.EnableDebug || s.cfg.ACL != nil):
		if !c.live.EnableDebug && !c.outsideGuard(readOperator) {
			return
		}
		profile(c, strings.TrimPrefix(raw, "/debug/pprof/"))
	case raw == "/":
		c.send(http.StatusOK, typeError, []byte("Landbridge agent: the HTTP API is under /v1/; this agent serves no web interface\n"))
	default:
		c.send(http.StatusNotFound, typeError, []byte(errNoUI))
	}
}

// redirect sends the client to another path with the same method and query.
func (c *call) redirect(to string) {
	u := url.URL{Path: to, RawQuery: c.r.URL.RawQuery}
	if c.r.URL.RawPath != "" {
		if p, err := url.PathUnescape(to); err == nil {
			u.Path, u.RawPath = p, to
		}
	}
	c.status = http.StatusTemporaryRedirect
	http.Redirect(c.w, c.r, u.String(), http.StatusTemporaryRedirect)
}

// dirty is whether a path has empty, "." or ".." elements.
func dirty(p string) bool {
	for i := 0; i+1 < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		switch rest := p[i+1:]; {
		case rest[0] == '/':
			return true
		case rest[0] != '.':
		case len(rest) == 1, rest[1] == '/', rest[1] == '.' && (len(rest) == 2 || rest[2] == '/'):
			return true
		}
	}
	return p == "" || p[0] != '/'
}

// unprintable is whether a path has characters that do not show: a key named by
// them could be taken for another one by who reads it in a list.
func unprintable(path string) bool {
	for i := range len(path) {
		if c := path[i]; c < ' ' || c > '~' {
			return strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) })
		}
	}
	return false
}

func cleanPath(p string) string {
	clean := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}
