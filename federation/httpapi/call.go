package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/forwarding/view"
	"landbridge/store"
	"landbridge/store/acl"
)

// call is one request on its way through a handler. It is pooled: nothing may
// keep it, or a slice of its buffers, once the handler has returned.
type call struct {
	s      *Server
	w      http.ResponseWriter
	r      *http.Request
	ep     *entry
	rest   string // what follows the endpoint's prefix, decoded
	live   *Reloadable
	p      params
	token  string
	who    *acl.Bearer // set by guards; nil: ACLs are off, or nobody asked
	status int
	held   int64         // bytes of a large body, taken from what all may have
	bound  time.Duration // how old an answer may be if the datacenter is away; 0: it fails
	// indexed is set by reads whose errors carry the index headers too.
	indexed bool
}

var calls = sync.Pool{New: func() any { return new(call) }}

// buffers holds bodies while they are read, indented or encoded.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled keeps a rare large body from staying in the pool for ever.
const maxPooled = 1 << 20

func getBuffer() *bytes.Buffer {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		buffers.Put(b)
	}
}

// Header values that never change: net/http only reads them.
var (
	typeJSON    = []string{"application/json"}
	typeError   = []string{"text/plain; charset=utf-8"}
	typeText    = []string{"text/plain"}
	one         = []string{"1"}
	zero        = []string{"0"}
	yes         = []string{"true"}
	no          = []string{"false"}
	nosniff     = []string{"nosniff"}
	sandbox     = []string{"sandbox"}
	allow       = []string{"allow"}
	denyPolicy  = []string{"deny"}
	vary        = []string{"Accept-Encoding"}
	gzipCoding  = []string{"gzip"}
	blocking    = []string{"blocking-query"}
	streaming   = []string{"streaming"}
	cacheHit    = []string{"HIT"}
	cacheMiss   = []string{"MISS"}
	effectiveOf = [...][]string{
		store.Default:    {store.Default.String()},
		store.Consistent: {store.Consistent.String()},
		store.Stale:      {store.Stale.String()},
	}
)

// Header names in the form net/http keeps them, so that setting one is a map
// write without canonicalisation.
const (
	hType        = "Content-Type"
	hLength      = "Content-Length"
	hEncoding    = "Content-Encoding"
	hVary        = "Vary"
	hAllow       = "Allow"
	hIndex       = "X-Consul-Index"
	hKnownLeader = "X-Consul-Knownleader"
	hLastContact = "X-Consul-Lastcontact"
	hBackend     = "X-Consul-Query-Backend"
	hEffective   = "X-Consul-Effective-Consistency"
	hFiltered    = "X-Consul-Results-Filtered-By-Acls"
	hPolicy      = "X-Consul-Default-Acl-Policy"
	hTranslate   = "X-Consul-Translate-Addresses"
	hReason      = "X-Consul-Reason"
	hContentHash = "X-Consul-Contenthash"
	hCache       = "X-Cache"
	hAge         = "Age"
	hRetryAfter  = "Retry-After"
	hStaleReason = "X-Landbridge-Stale-Reason"
	hStaleSource = "X-Landbridge-Stale-Source"
	hStaleError  = "X-Landbridge-Stale-Error"
	hRoute       = "X-Landbridge-Route"
)

// request starts a request for the dispatcher, for the datacenter and with the
// token of this call.
func (c *call) request(method rpc.MethodID) *rpc.Request {
	return &rpc.Request{Method: method, Datacenter: c.p.dc, Token: c.token, SourceDC: c.s.cfg.Datacenter}
}

// query adds the options of a read: consistency, blocking, filter.
func (c *call) query(req *rpc.Request, discovery bool) error {
	p := &c.p
	if p.has(fStale) && p.has(fConsistent) {
		return badRequest("Cannot specify ?stale with ?consistent, conflicting semantics.")
	}
	if p.has(fCached) && p.has(fConsistent) {
		return badRequest("Cannot specify ?cached with ?consistent, conflicting semantics.")
	}
	if p.maxStale != "" {
		d, err := time.ParseDuration(p.maxStale)
		if err != nil {
			return badRequest("Invalid max_stale value %q", p.maxStale)
		}
		req.MaxStale = d
	}
	if err := c.staleIfError(); err != nil {
		return err
	}
	switch {
	case p.has(fConsistent):
		req.Consistency = store.Consistent
	case p.has(fLeader):
	case p.has(fStale), p.has(fMaxStale):
		req.Consistency = store.Stale
	case discovery && c.live.DiscoveryMaxStale > 0:
		req.Consistency = store.Stale
		req.MaxStale = c.live.DiscoveryMaxStale
	}
	if p.index != "" {
		n, err := strconv.ParseUint(p.index, 10, 64)
		if err != nil {
			return badRequest("Invalid index")
		}
		req.MinIndex = store.Index(n)
	}
	if p.wait != "" {
		d, err := time.ParseDuration(p.wait)
		if err != nil {
			return badRequest("Invalid wait time")
		}
		switch {
		case d < 0:
			req.MinIndex = 0 // answers at once
		case d > c.s.cfg.MaxQueryTime:
			d = c.s.cfg.MaxQueryTime
		}
		req.Wait = d
	}
	if req.Wait == 0 {
		req.Wait = c.s.cfg.DefaultQueryTime
	}
	req.Filter = p.filter
	req.Query.Near = p.near
	if p.near == "_agent" {
		req.Query.Near = ""
		if p.dc == "" || p.dc == c.s.cfg.Datacenter { // coordinates of two datacenters do not compare
			req.Query.Near = c.s.cfg.NodeName
		}
	}
	req.TranslateWAN = c.s.cfg.TranslateWAN
	return nil
}

// read runs a read and writes its answer: JSON with the index headers, and with
// X-Consul-Effective-Consistency if effective.
func (c *call) read(req *rpc.Request, effective bool) error {
	resp, err := c.do(req)
	if err != nil {
		c.indexed = true
		return err
	}
	c.indexHeaders(resp, effective)
	if c.streams(req) {
		c.w.Header()[hBackend] = streaming
	}
	if resp.NotFound {
		c.send(http.StatusNotFound, nil, nil)
		return nil
	}
	c.json(http.StatusOK, resp.Body)
	return nil
}

// staleIfError reads how old an answer may be when its datacenter is away: a
// duration, or seconds as in RFC 5861.
func (c *call) staleIfError() error {
	p := &c.p
	if !p.has(fStaleIfError) {
		if !p.has(fConsistent) {
			c.bound = c.live.StaleIfError
		}
		return nil
	}
	if p.has(fConsistent) {
		return badRequest("Cannot specify ?stale-if-error with ?consistent, conflicting semantics.")
	}
	d, err := time.ParseDuration(p.staleIfError)
	if err != nil {
		n, nerr := strconv.ParseUint(p.staleIfError, 10, 31)
		d, err = time.Duration(n)*time.Second, nerr
	}
	if err != nil || d < 0 {
		return badRequest("Invalid stale-if-error value %q: want a duration such as 10m, or seconds", p.staleIfError)
	}
	c.bound = d
	return nil
}

// direct runs a read that is not answered from a cache of ours, unless its
// datacenter is away and the caller takes what is kept.
func (c *call) direct(req *rpc.Request) (*rpc.Response, error) {
	if c.bound <= 0 || c.s.cfg.Bounded == nil {
		return c.run(req)
	}
	a, err := c.s.cfg.Bounded.Bounded(c.r.Context(), req, c.bound)
	if err != nil {
		return nil, err
	}
	if a.Route != "" {
		c.w.Header()[hRoute] = []string{a.Route}
	}
	if a.Instead.Reason != "" {
		dc := req.Datacenter
		if dc == "" {
			dc = c.s.cfg.Datacenter
		}
		h := c.w.Header()
		h[hAge] = []string{strconv.FormatInt(int64((a.Age+time.Second-1)/time.Second), 10)}
		h[hStaleReason] = []string{string(a.Instead.Reason)}
		h[hStaleSource] = []string{dc + " through " + c.s.cfg.NodeName}
		if a.Instead.Cause != nil {
			h[hStaleError] = []string{headerText(textOf(a.Instead.Cause))}
		}
	}
	return a.Response, nil
}

// headerText makes a text fit for a header.
func headerText(s string) string {
	if len(s) > 256 {
		s = s[:256]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
}

// do runs a read: from the agent's cache if the caller wants that and the method
// has it, with the headers that tell.
func (c *call) do(req *rpc.Request) (*rpc.Response, error) {
	if c.s.cfg.Cache == nil || !c.ep.cached && !(c.p.has(fCached) && view.Cacheable(req.Method)) {
		return c.direct(req)
	}
	control, err := view.ParseControl(c.r.Header["Cache-Control"])
	if err != nil {
		return nil, err
	}
	if control.StaleIfError == 0 {
		control.StaleIfError = c.bound
	}
	a, err := c.s.cfg.Cache.Cached(c.r.Context(), req, control)
	if err != nil {
		return nil, err
	}
	h := c.w.Header()
	if a.Route != "" {
		h[hRoute] = []string{a.Route}
	}
	h[hCache] = cacheMiss
	if a.Hit {
		h[hCache], h[hAge] = cacheHit, zero
		if s := a.Age / time.Second; s > 0 {
			h[hAge] = []string{strconv.FormatInt(int64(s), 10)}
		}
	}
	return a.Response, nil
}

// run has a request run. The answer's headers tell its way, if it came from another
// datacenter.
func (c *call) run(req *rpc.Request) (*rpc.Response, error) {
	resp, err := c.s.cfg.Do.Do(c.r.Context(), req)
	if err == nil && resp.Route != "" {
		c.w.Header()[hRoute] = []string{resp.Route}
	}
	return resp, err
}

// streams is whether the read is one that clients take for a stream of events: a
// health answer that is followed.
func (c *call) streams(req *rpc.Request) bool {
	return c.s.cfg.Streaming && (req.Method == rpc.HealthService || req.Method == rpc.HealthConnect) &&
		(req.MinIndex > 0 || c.p.has(fCached) && c.s.cfg.Cache != nil)
}

// indexHeaders sets what every answer of a blocking read carries.
func (c *call) indexHeaders(resp *rpc.Response, effective bool) {
	h := c.w.Header()
	h[hIndex] = []string{strconv.FormatUint(uint64(max(resp.Index, 1)), 10)}
	h[hKnownLeader] = no
	if resp.KnownLeader {
		h[hKnownLeader] = yes
	}
	h[hLastContact] = zero
	if ms := resp.LastContact.Milliseconds(); ms > 0 {
		h[hLastContact] = []string{strconv.FormatInt(ms, 10)}
	}
	h[hBackend] = blocking
	if effective {
		h[hEffective] = effectiveOf[min(int(resp.Effective), len(effectiveOf)-1)]
	}
	if resp.Filtered {
		h[hFiltered] = yes
	}
	if c.s.cfg.TranslateWAN {
		h[hTranslate] = yes
	}
}

// plain runs a read that has no index: status, operator.
func (c *call) plain(req *rpc.Request) error {
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, resp.Body)
	return nil
}

// json writes a JSON body, indented if asked for. Ownership stays with the caller.
func (c *call) json(status int, body []byte) {
	pretty := c.p.has(fPretty)
	if !pretty && !c.s.cfg.DevMode {
		c.send(status, typeJSON, body)
		return
	}
	buf := getBuffer()
	defer putBuffer(buf)
	if err := json.Indent(buf, body, "", "    "); err != nil {
		c.send(status, typeJSON, body) // not ours to mend: pass on what was answered
		return
	}
	if pretty {
		buf.WriteByte('\n')
	}
	c.send(status, typeJSON, buf.Bytes())
}

// encode writes v with encoding/json: for answers made in this process that are
// not asked for often.
func (c *call) encode(status int, v any) error {
	buf := getBuffer()
	defer putBuffer(buf)
	if err := json.NewEncoder(buf).Encode(v); err != nil {
		return err
	}
	c.json(status, bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}))
	return nil
}

// done answers a write without a body.
func (c *call) done() error {
	c.send(http.StatusOK, typeJSON, nil)
	return nil
}

// gzipFrom is the size from which bodies are compressed for clients that take it.
const gzipFrom = 1400

// send writes status, type and body.
func (c *call) send(status int, contentType []string, body []byte) {
	c.status = status
	h := c.w.Header()
	if contentType != nil {
		h[hType] = contentType
	}
	if len(body) >= gzipFrom && acceptsGzip(c.r.Header) {
		h[hEncoding] = gzipCoding
		c.w.WriteHeader(status)
		gz := getGzip(c.w)
		_, err := gz.Write(body)
		if err == nil {
			err = gz.Close()
		}
		putGzip(gz)
		c.lost(err)
		return
	}
	if len(body) > 2048 { // net/http counts shorter ones itself, longer ones it would chunk
		h[hLength] = []string{strconv.Itoa(len(body))}
	}
	c.w.WriteHeader(status)
	if len(body) > 0 {
		_, err := c.w.Write(body)
		c.lost(err)
	}
}

// lost counts an answer whose client had gone: there is nobody left to tell.
func (c *call) lost(err error) {
	if err != nil {
		c.s.metrics.lost.Inc()
	}
}

func acceptsGzip(h http.Header) bool {
	for _, v := range h["Accept-Encoding"] {
		for v != "" {
			var item string
			item, v, _ = strings.Cut(v, ",")
			coding, param, _ := strings.Cut(strings.TrimSpace(item), ";")
			if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				continue
			}
			q, weighted := strings.CutPrefix(strings.TrimSpace(param), "q=")
			if !weighted {
				return true
			}
			f, err := strconv.ParseFloat(q, 64)
			return err == nil && f > 0
		}
	}
	return false
}

// fail writes an error as plain text.
func (c *call) fail(err error) {
	if c.indexed {
		h := c.w.Header()
		h[hIndex], h[hKnownLeader], h[hLastContact] = one, no, zero
	}
	kind := store.KindOf(err)
	if counter := c.s.metrics.limited[kind]; counter != nil {
		counter.Inc()
		if kind != store.KindTooLarge { // which is no better later
			c.w.Header()[hRetryAfter] = one
		}
	}
	c.send(statusOf(err), typeError, []byte(textOf(err)))
}

// secret returns the token of a request: the parameter, the header, or a bearer
// token, in this order.
func secret(r *http.Request, p *params) string {
	if p.token != "" {
		return p.token
	}
	if v := r.Header["X-Consul-Token"]; len(v) > 0 && v[0] != "" {
		return v[0]
	}
	if v := r.Header["Authorization"]; len(v) > 0 {
		if scheme, token, ok := strings.Cut(v[0], " "); ok && strings.EqualFold(scheme, "bearer") {
			return strings.TrimSpace(token)
		}
	}
	return ""
}
