package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client speaks to one agent.
type Client struct {
	base       *url.URL
	http       *http.Client
	token      string
	auth       string
	datacenter string
	stale      bool
}

// New makes a client. It opens no connection.
func New(o Options) (*Client, error) {
	base, socket, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	token, err := o.token()
	if err != nil {
		return nil, err
	}
	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	tr := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        4,
	}
	if socket != "" {
		tr.Proxy = nil
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	var transport http.RoundTripper = tr
	if o.Transport != nil {
		transport = o.Transport
	}
	return &Client{base: base, http: &http.Client{Transport: transport}, token: token, auth: o.Auth, datacenter: o.Datacenter, stale: o.Stale}, nil
}

// Token is the token that requests carry; "" is none.
func (c *Client) Token() string { return c.token }

// StatusError is an answer other than success.
type StatusError struct {
	Code   int
	Body   string
	Header http.Header
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("Unexpected response code: %d (%s)", e.Code, e.Body)
}

// NotFound says whether err is a 404.
func NotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// MaxAnswer bounds what is read into memory of an answer that is not streamed.
const MaxAnswer = 1 << 30

// Path joins segments to a path of the API, each escaped: "v1", "agent", "join", "a/b".
func Path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// KeyPath is the path of a key, whose slashes stay slashes.
func KeyPath(key string) string {
	parts := strings.Split(key, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/v1/kv/" + strings.Join(parts, "/")
}

// Do sends a request and returns the answer if it is a success, else a
// StatusError or what kept the answer from coming. The caller closes the body.
// path is escaped already.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	q := url.Values{}
	if c.datacenter != "" {
		q.Set("dc", c.datacenter)
	}
	if c.stale && method == http.MethodGet {
		q.Set("stale", "")
	}
	for k, v := range query {
		q[k] = v
	}
	target := c.base.Scheme + "://" + c.base.Host + c.base.EscapedPath() + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.base.User != nil {
		pass, _ := c.base.User.Password()
		req.SetBasicAuth(c.base.User.Username(), pass)
	}
	if c.auth != "" {
		user, pass, _ := strings.Cut(c.auth, ":")
		req.SetBasicAuth(user, pass)
	}
	if c.token != "" {
		req.Header.Set("X-Consul-Token", c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return nil, &StatusError{resp.StatusCode, strings.TrimSpace(string(text)), resp.Header}
}

// Get decodes the JSON answer of a GET into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodGet, path, query, nil, out)
}

// GetHeader is Get that returns the answer's header, too: also that of a
// StatusError.
func (c *Client) GetHeader(ctx context.Context, path string, query url.Values, out any) (http.Header, error) {
	resp, err := c.Do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		var status *StatusError
		if errors.As(err, &status) {
			return status.Header, err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, MaxAnswer)).Decode(out); err != nil {
		return nil, fmt.Errorf("decode the answer of GET %s: %w", path, err)
	}
	return resp.Header, nil
}

// Put sends body as JSON, unless it is nil or a []byte, and decodes the JSON
// answer into out unless that is nil.
func (c *Client) Put(ctx context.Context, path string, query url.Values, body, out any) error {
	return c.call(ctx, http.MethodPut, path, query, body, out)
}

// Delete decodes the JSON answer of a DELETE into out unless that is nil.
func (c *Client) Delete(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodDelete, path, query, nil, out)
}

func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return err
		}
		r = bytes.NewReader(data)
	}
	resp, err := c.Do(ctx, method, path, query, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, MaxAnswer))
		return err
	}
	if raw, ok := out.(*[]byte); ok {
		*raw, err = io.ReadAll(io.LimitReader(resp.Body, MaxAnswer))
		return err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, MaxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("decode the answer of %s %s: %w", method, path, err)
	}
	return nil
}
