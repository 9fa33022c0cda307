package check

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"landbridge/store"
)

// maxHeader bounds what a server may send before the body.
const maxHeader = 64 << 10

// HTTP makes a request: 2xx passes, 429 is a warning, all else critical.
type HTTP struct {
	URL         string
	Method      string // "": GET
	Header      map[string][]string
	Body        string
	NoRedirects bool
	TLS         TLS
	Limit       int // bytes of the body that are kept
	Dial        Dial
}

// Run makes the request on a connection of its own, following redirects.
func (c *HTTP) Run(ctx context.Context) Result {
	method := c.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL, strings.NewReader(c.Body))
	if err != nil {
		return failure(err)
	}
	for k, list := range c.Header {
		for _, v := range list {
			req.Header.Add(k, v)
		}
	}
	// The Host header is not taken from the header map by net/http.
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	setDefault(req.Header, "User-Agent", userAgent)
	setDefault(req.Header, "Accept", "text/plain, text/*, */*")
	tlsConfig, err := c.TLS.config()
	if err != nil {
		return failure(err)
	}
	client := &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            c.Dial.orNet(),
		TLSClientConfig:        tlsConfig,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}}
	// There is nothing idle, but a connection that is still being made when the
	// request is given up would go on without end.
	defer client.CloseIdleConnections()
	if c.NoRedirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(req)
	if err != nil {
		return failure(err)
	}
	defer func() { _ = resp.Body.Close() }()
	// What does not fit is not read: the connection is not used again.
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(c.Limit)))
	text := string(body)
	if err != nil && text == "" {
		text = err.Error()
	}
	r := Result{store.Critical, fmt.Sprintf("HTTP %s %s: %s Output: %s", method, c.URL, resp.Status, text)}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode <= 299:
		r.Status = store.Passing
	case resp.StatusCode == http.StatusTooManyRequests:
		r.Status = store.Warning
	}
	return r
}

// userAgent is what services and their logs know these checks by.
const userAgent = "Consul Health Check"

func setDefault(h http.Header, key, value string) {
	if _, ok := h[key]; !ok {
		h.Set(key, value)
	}
}
