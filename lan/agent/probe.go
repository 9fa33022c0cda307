package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"landbridge/store"
)

const (
	probeTimeout = 10 * time.Second
	maxHeader    = 64 << 10
)

// probe runs one HTTP or TCP check, again and again.
type probe struct {
	def     *CheckDefinition
	timeout time.Duration
	limit   int // bytes of output
	client  *http.Client
	tls     *tls.Config
}

func (a *Agent) newProbe(d *CheckDefinition) *probe {
	p := &probe{def: d, timeout: time.Duration(d.Timeout), limit: a.outputLimit(d)}
	if p.timeout <= 0 {
		p.timeout = probeTimeout
	}
	p.tls = &tls.Config{ServerName: d.TLSServerName, InsecureSkipVerify: d.TLSSkipVerify} //nolint:gosec // the definition asks for it
	if d.HTTP != "" {
		p.client = &http.Client{
			Transport: &http.Transport{
				Proxy:                  http.ProxyFromEnvironment,
				DisableKeepAlives:      true,
				TLSClientConfig:        p.tls,
				MaxResponseHeaderBytes: maxHeader,
			},
		}
		if d.DisableRedirects {
			p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		}
	}
	return p
}

func (p *probe) close() {
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
}

// run probes once. It ends within the check's time-out.
func (p *probe) run(ctx context.Context) (status, output string) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if p.def.HTTP != "" {
		return p.http(ctx)
	}
	return p.tcp(ctx)
}

func (p *probe) http(ctx context.Context) (status, output string) {
	method := p.def.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, p.def.HTTP, strings.NewReader(p.def.Body))
	if err != nil {
		return store.Critical, err.Error()
	}
	for k, list := range p.def.Header {
		for _, v := range list {
			req.Header.Add(k, v)
		}
	}
	// The Host header is not taken from the header map by net/http.
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	setDefault(req.Header, "User-Agent", "Consul Health Check")
	setDefault(req.Header, "Accept", "text/plain, text/*, */*")
	resp, err := p.client.Do(req)
	if err != nil {
		return store.Critical, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	// What does not fit is not read: the connection is not used again.
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(p.limit)))
	text := string(body)
	if err != nil && len(body) == 0 {
		text = err.Error()
	}
	output = fmt.Sprintf("HTTP %s %s: %s Output: %s", method, p.def.HTTP, resp.Status, text)
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode <= 299:
		return store.Passing, output
	case resp.StatusCode == http.StatusTooManyRequests:
		return store.Warning, output
	}
	return store.Critical, output
}

func setDefault(h http.Header, key, value string) {
	if _, ok := h[key]; !ok {
		h.Set(key, value)
	}
}

func (p *probe) tcp(ctx context.Context) (status, output string) {
	var conn net.Conn
	var err error
	if p.def.TCPUseTLS {
		conn, err = (&tls.Dialer{Config: p.tls}).DialContext(ctx, "tcp", p.def.TCP)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", p.def.TCP)
	}
	if err != nil {
		return store.Critical, err.Error()
	}
	_ = conn.Close()
	return store.Passing, fmt.Sprintf("TCP connect %s: Success", p.def.TCP)
}
