package watch

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Target is an HTTP endpoint that is told of a value.
type Target struct {
	URL           string
	Method        string // "" is POST
	Header        map[string][]string
	Timeout       time.Duration // 0 is targetTimeout
	TLSSkipVerify bool
}

const targetTimeout = 10 * time.Second

func (t *Target) check() error {
	var errs []error
	if t.URL == "" {
		errs = append(errs, errors.New("http_handler_config needs a path"))
	} else if u, err := url.Parse(t.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("http_handler_config.path must be an address such as http://host/path, is %q", t.URL))
	}
	if t.Timeout < 0 {
		errs = append(errs, fmt.Errorf("http_handler_config.timeout must be at least 0s, is %s", t.Timeout))
	}
	return errors.Join(errs...)
}

// caller sends values to a target. It keeps the connection between them.
type caller struct {
	target Target
	http   *http.Client
}

func newCaller(t Target) *caller {
	if t.Method == "" {
		t.Method = http.MethodPost
	}
	if t.Timeout == 0 {
		t.Timeout = targetTimeout
	}
	return &caller{t, &http.Client{
		Timeout: t.Timeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: t.TLSSkipVerify}, //nolint:gosec // the configuration asks for it
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}}
}

func (c *caller) close() { c.http.CloseIdleConnections() }

// call sends one value. Any answer of 2xx is good.
func (c *caller) call(ctx context.Context, v Value) error {
	req, err := http.NewRequestWithContext(ctx, c.target.Method, c.target.URL, bytes.NewReader(v.JSON))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	for k, list := range c.target.Header {
		req.Header.Del(k)
		for _, s := range list {
			req.Header.Add(k, s)
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host // net/http does not take it from the header
	}
	req.Header.Set("X-Consul-Index", strconv.FormatUint(v.Index, 10))
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return &StatusError{resp.StatusCode, string(bytes.TrimSpace(text))}
	}
	return nil
}
