package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// client is a persistent HTTP/1.1 connection to a node, with a parser just large
// enough for servers written in Go. It costs much less than net/http, so that the
// load is not what is measured. It connects when it is used, and again after an
// error; one goroutine at a time uses it.
type client struct {
	node  *node
	mu    sync.Mutex // guards conn against interrupt
	conn  net.Conn   // nil while not connected
	r     *bufio.Reader
	body  []byte // of the last answer; the next one overwrites it
	index uint64 // X-Consul-Index of the last answer
}

func (n *node) client() *client { return &client{node: n} }

// Close closes the connection; the client may be used again.
func (c *client) Close() error {
	c.interrupt()
	c.setConn(nil)
	return nil
}

// interrupt closes the connection under a request, which then fails. It may be
// called from any goroutine.
func (c *client) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close() // nothing that was sent is waited for
	}
}

func (c *client) setConn(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
}

// appendRequest appends a whole request to buf.
func appendRequest(buf []byte, method, path, token string, body []byte) []byte {
	buf = append(append(buf, method...), ' ')
	buf = append(append(buf, path...), " HTTP/1.1\r\nHost: bench\r\n"...)
	if token != "" {
		buf = append(append(append(buf, "X-Consul-Token: "...), token...), "\r\n"...)
	}
	if method != "GET" {
		buf = append(buf, "Content-Length: "...)
		buf = append(strconv.AppendInt(buf, int64(len(body)), 10), "\r\n"...)
	}
	return append(append(buf, "\r\n"...), body...)
}

// get and put send a request with the node's token; an answer other than 200 is an
// error.
func (c *client) get(path string, limit time.Duration) error {
	return c.send(appendRequest(nil, "GET", path, c.node.token, nil), limit)
}

func (c *client) put(path string, body []byte, limit time.Duration) error {
	return c.send(appendRequest(nil, "PUT", path, c.node.token, body), limit)
}

// statusError is an answer other than 200.
type statusError struct {
	status int
	text   string // its beginning
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.status, e.text) }

// send sends a request made by appendRequest and reads the answer into body and
// index, within limit. An answer other than 200 is a *statusError; after another
// error the request may have been carried out.
func (c *client) send(request []byte, limit time.Duration) error {
	status, err := c.exchange(request, limit)
	if err == nil && status != 200 {
		err = &statusError{status, fmt.Sprintf("%.120s", bytes.TrimSpace(c.body))}
	}
	return err
}

func (c *client) exchange(request []byte, limit time.Duration) (status int, err error) {
	if c.conn == nil {
		conn, err := c.node.dial("tcp", c.node.http)
		if err != nil {
			return 0, err
		}
		c.setConn(conn)
		c.r = bufio.NewReaderSize(conn, 8192)
	}
	closing := false
	defer func() {
		if err != nil || closing {
			c.Close()
		}
	}()
	if err = c.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	if _, err = c.conn.Write(request); err != nil {
		return 0, err
	}
	status, closing, err = c.read()
	return status, err
}

// read reads one answer; closing says that the server closes the connection.
func (c *client) read() (status int, closing bool, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, false, fmt.Errorf("not HTTP: %.40q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, err
	}
	length, chunked := -1, false
	c.index, c.body = 0, c.body[:0]
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return 0, false, err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := header(line, "content-length:"); ok {
			length, err = strconv.Atoi(string(v))
		} else if v, ok := header(line, "x-consul-index:"); ok {
			c.index, err = strconv.ParseUint(string(v), 10, 64)
		} else if v, ok := header(line, "transfer-encoding:"); ok {
			chunked = bytes.EqualFold(v, []byte("chunked"))
		} else if v, ok := header(line, "connection:"); ok {
			closing = bytes.EqualFold(v, []byte("close"))
		}
		if err != nil {
			return 0, false, fmt.Errorf("header %.60q: %w", line, err)
		}
	}
	switch {
	case chunked:
		err = c.readChunks()
	case length > 0:
		err = c.readBody(length)
	case length < 0 && status != 204 && status != 304:
		err = errors.New("answer without a length")
	}
	return status, closing, err
}

// header returns a line's value if it is the header called name, which is in lower
// case and has its colon.
func header(line []byte, name string) ([]byte, bool) {
	if len(line) < len(name) {
		return nil, false
	}
	for i := range len(name) {
		b := line[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != name[i] {
			return nil, false
		}
	}
	return bytes.TrimSpace(line[len(name):]), true
}

// maxBody bounds an answer: snapshots of 200,000 keys are the largest.
const maxBody = 1 << 30

func (c *client) readBody(n int) error {
	at := len(c.body)
	if n < 0 || at+n > maxBody {
		return fmt.Errorf("answer of more than %d bytes", maxBody)
	}
	c.body = slices.Grow(c.body, n)[:at+n]
	_, err := io.ReadFull(c.r, c.body[at:])
	return err
}

func (c *client) readChunks() error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return err
		}
		if err := c.readBody(int(n)); err != nil {
			return err
		}
		if _, err := c.r.Discard(2); err != nil || n == 0 {
			return err
		}
	}
}
