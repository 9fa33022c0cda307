package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
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

// Engine is where a Docker Engine listens.
type Engine struct {
	// Host is as DOCKER_HOST has it: unix:///path or tcp://host:port; "" is
	// DefaultEngine.
	Host string
	// TLS returns the client's side for tcp; nil: without TLS.
	TLS func() (*tls.Config, error)
}

// DefaultEngine is the Docker Engine's socket.
const DefaultEngine = "unix:///var/run/docker.sock"

// Docker runs a program in a container: its exit code counts as a script's does.
// A program that outlives its time-out cannot be killed through the Engine's API:
// the check ends, the program does not.
type Docker struct {
	Engine    Engine
	Container string
	Shell     string   // run Args through this shell of the container; "": directly
	Args      []string // the program and its arguments
	Timeout   time.Duration
	Limit     int // bytes of output that are kept
	Dial      Dial
}

// Run runs the program once.
func (c *Docker) Run(ctx context.Context) Result {
	code, out, err := c.exec(ctx)
	switch {
	case ctx.Err() != nil:
		return timedOut(c.Timeout)
	case err != nil:
		return failure(err)
	}
	return exited(code, out)
}

// command is what is run in the container.
func (c *Docker) command() []string {
	switch {
	case c.Shell == "":
		return c.Args
	case len(c.Args) == 1:
		return []string{c.Shell, "-c", c.Args[0]}
	}
	quoted := make([]string, len(c.Args))
	for i, a := range c.Args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return []string{c.Shell, "-c", strings.Join(quoted, " ")}
}

func (c *Docker) exec(ctx context.Context) (code int, out *tail, err error) {
	e, err := c.Engine.open(c.Dial)
	if err != nil {
		return 0, nil, err
	}
	defer e.client.CloseIdleConnections()
	var created struct{ ID string }
	err = e.call(ctx, http.MethodPost, "/containers/"+url.PathEscape(c.Container)+"/exec",
		map[string]any{"AttachStdout": true, "AttachStderr": true, "Cmd": c.command()}, decodeInto(&created))
	if err != nil {
		return 0, nil, err
	}
	job := "/exec/" + url.PathEscape(created.ID)
	out = &tail{limit: c.Limit}
	err = e.call(ctx, http.MethodPost, job+"/start", map[string]any{"Detach": false, "Tty": false},
		func(body io.Reader) error { return demultiplex(out, body) })
	if err != nil {
		return 0, nil, err
	}
	// The Engine may close the output a moment before it has the exit code.
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var state struct {
			Running  bool
			ExitCode *int
		}
		if err := e.call(ctx, http.MethodGet, job+"/json", nil, decodeInto(&state)); err != nil {
			return 0, nil, err
		}
		if !state.Running && state.ExitCode != nil {
			return *state.ExitCode, out, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

// engine is a client of the Engine's API. The path has no version: that is the
// newest the Engine speaks, and these three calls are the same in all.
type engine struct {
	name   string
	base   string
	client *http.Client
}

func (e Engine) open(dial Dial) (*engine, error) {
	host := e.Host
	if host == "" {
		host = DefaultEngine
	}
	scheme, address, _ := strings.Cut(host, "://")
	t := &http.Transport{MaxResponseHeaderBytes: maxHeader}
	c := &engine{name: host, base: "http://docker", client: &http.Client{Transport: t}}
	switch scheme {
	case "unix":
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial.orNet()(ctx, "unix", address)
		}
	case "tcp", "http", "https":
		t.DialContext = dial.orNet()
		c.base = "http://" + strings.TrimSuffix(address, "/")
		if e.TLS != nil || scheme == "https" {
			c.base = "https://" + strings.TrimSuffix(address, "/")
		}
		if e.TLS != nil {
			cfg, err := e.TLS()
			if err != nil {
				return nil, fmt.Errorf("Docker Engine at %s: %w", host, err)
			}
			t.TLSClientConfig = cfg
		}
	default:
		return nil, fmt.Errorf("Docker Engine at %s: DOCKER_HOST must begin with unix:// or tcp://", host)
	}
	return c, nil
}

// maxEngineAnswer bounds the JSON of the Engine.
const maxEngineAnswer = 1 << 20

func decodeInto(v any) func(io.Reader) error {
	return func(body io.Reader) error { return json.NewDecoder(io.LimitReader(body, maxEngineAnswer)).Decode(v) }
}

// call makes one call; read gets the body of the answer if it is a success.
func (e *engine) call(ctx context.Context, method, path string, in any, read func(io.Reader) error) error {
	err := e.try(ctx, method, path, in, read)
	if err != nil {
		var u *url.Error // says the URL again, which has a made-up host for a socket
		if errors.As(err, &u) {
			err = u.Err
		}
		err = fmt.Errorf("Docker Engine at %s: %w", e.name, err)
	}
	return err
}

func (e *engine) try(ctx context.Context, method, path string, in any, read func(io.Reader) error) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, e.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 {
		var refusal struct{ Message string }
		if decodeInto(&refusal)(resp.Body) != nil || refusal.Message == "" {
			refusal.Message = "no reason given"
		}
		return fmt.Errorf("%s: %s", resp.Status, refusal.Message)
	}
	return read(resp.Body)
}

// demultiplex copies the payloads of the Engine's stream: a header of 8 bytes
// (which output, and how long) before each.
func demultiplex(w io.Writer, r io.Reader) error {
	var head [8]byte
	for {
		switch _, err := io.ReadFull(r, head[:]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case head[0] > 3 || head[1]|head[2]|head[3] != 0:
			return errors.New("output is not in the Engine's stream format")
		}
		if _, err := io.CopyN(w, r, int64(binary.BigEndian.Uint32(head[4:]))); err != nil {
			return err
		}
	}
}
