package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"landbridge/store"
	"landbridge/store/acl"
)

// bodyTimeout is how long a body may take to arrive.
const bodyTimeout = time.Minute

// drainTimeout is how long a body that is refused anyway may take.
const drainTimeout = 5 * time.Second

// maxJSONBody bounds the bodies of registrations and the like.
const maxJSONBody = 2 << 20

// Bodies up to smallBody are read from anybody. Of larger ones maxBodies are in memory
// at a time, so that many connections do not make an agent's memory theirs.
const (
	smallBody = 128 << 10
	maxBodies = 128 << 20
)

// body reads the request's body into a pooled buffer, which the caller gives
// back with putBuffer. What counts is the bytes read: a length that was declared
// is only believed when it is too large.
func (c *call) body(limit int64, key string) (*bytes.Buffer, error) {
	if c.r.ContentLength > limit {
		c.drain(limit)
		return nil, errBodyTooLarge(c.r.ContentLength, limit, key)
	}
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return getBuffer(), nil
	}
	if err := c.large(limit); err != nil {
		c.drain(limit)
		return nil, err
	}
	buf := getBuffer()
	// A body that trickles in holds a connection and a goroutine. The deadline is
	// lifted at once: it would end the wait for the client's departure, too.
	conn := http.NewResponseController(c.w)
	timed := conn.SetReadDeadline(time.Now().Add(bodyTimeout)) == nil
	n, err := buf.ReadFrom(io.LimitReader(c.r.Body, limit+1))
	if timed && err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err == nil && n > limit {
		err = errBodyTooLarge(n, limit, key)
	} else if err != nil {
		err = badRequest("reading the request's body: %w", err)
	}
	if err != nil {
		putBuffer(buf)
		return nil, err
	}
	return buf, nil
}

// large lets a body in that is not small: from whoever has a token, or may write
// something without, and while there is room for it until the request ends. What
// another datacenter thinks of a token is not known here.
func (c *call) large(limit int64) error {
	size := c.r.ContentLength
	if size < 0 {
		size = limit
	}
	if size <= smallBody {
		return nil
	}
	if dc := c.p.dc; c.s.cfg.ACL != nil && (dc == "" || dc == c.s.cfg.Datacenter) {
		who, err := c.s.cfg.ACL.Resolve(c.r.Context(), c.token)
		if err != nil {
			return err
		}
		if who.Anonymous() && !who.CanAny(acl.Write) {
			return store.Errorf(store.KindPermissionDenied, "Permission denied: a body of more than %d bytes needs a token", smallBody)
		}
	}
	c.held = size
	if all := c.s.bodies.Add(size); all > maxBodies && all > size {
		return store.Errorf(store.KindRateLimited, "Too many large request bodies at once, please try again")
	}
	return nil
}

// drain reads a refused body whose length is not outrageous. Clients that send all
// of it before they read would meet a closed connection instead of the answer. One
// that asks before it sends (Expect: 100-continue) is told at once.
func (c *call) drain(limit int64) {
	if c.r.ContentLength < 0 || c.r.ContentLength > 2*limit || c.r.Header.Get("Expect") != "" {
		return
	}
	conn := http.NewResponseController(c.w)
	if conn.SetReadDeadline(time.Now().Add(drainTimeout)) != nil {
		return
	}
	if _, err := io.Copy(io.Discard, c.r.Body); err == nil {
		_ = conn.SetReadDeadline(time.Time{}) // else the connection ends with the answer
	}
}

// jsonBody is body with the bound of all that is JSON and has none of its own.
func (c *call) jsonBody() (*bytes.Buffer, error) { return c.body(maxJSONBody, "http_config") }

// decode reads a JSON body into v, which gets copies, and refuses unknown fields.
func (c *call) decode(v any) error { return c.decodeAs(v, true, errDecode) }

// decodeAs is decode for those whose errors have other words, or who pass over what
// they do not know: wrap takes what is wrong with the JSON, io.EOF of an empty body.
func (c *call) decodeAs(v any, strict bool, wrap func(error) error) error {
	buf, err := c.jsonBody()
	if err != nil {
		return err
	}
	defer putBuffer(buf)
	if err := parseJSON(buf, v, strict); err != nil {
		return wrap(err)
	}
	return nil
}

// parseJSON decodes the first value of a body; what follows is not looked at. Names
// match case-insensitively.
func parseJSON(body io.Reader, v any, strict bool) error {
	d := json.NewDecoder(body)
	if strict {
		d.DisallowUnknownFields()
	}
	err := d.Decode(v)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("unexpected EOF") // the text's, not the connection's
	}
	return err
}

// optional is wrap for where a body need not be there.
func optional(wrap func(error) error) func(error) error {
	return func(err error) error {
		if err == io.EOF {
			return nil
		}
		return wrap(err)
	}
}
