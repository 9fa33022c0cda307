package h1

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// copyBelow is the size of bodies that are copied behind their head; longer ones
// are handed to the kernel where they are.
const copyBelow = 16 << 10

// maxKept bounds the buffers that a connection keeps for its next answer.
const maxKept = 64 << 10

// response is the answer under way on a connection. It is an http.ResponseWriter
// without what needs a connection of one's own: no Flush, no Hijack.
type response struct {
	c      *conn
	header http.Header
	status int
	body   []byte // written and not sent
	kept   []byte // memory for body
	out    []byte // memory for heads and what is copied behind them
	sent   bool
	err    error // of sending
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write sends a body of the length that the handler declared at once, without a
// copy of long ones. Others are collected until the handler has returned.
func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.sent:
		return 0, http.ErrContentLength
	case len(w.body) == 0 && declared(w.header, len(b)):
		w.send(b)
		return len(b), w.err
	}
	w.body = append(w.body, b...)
	return len(b), nil
}

// declared is whether the header gives n as the length of the body.
func declared(h http.Header, n int) bool {
	v := h["Content-Length"]
	return len(v) == 1 && v[0] == strconv.Itoa(n)
}

// SetReadDeadline has nothing to bound: the body is in memory.
func (w *response) SetReadDeadline(time.Time) error { return nil }

func (w *response) begin() {
	if w.header == nil {
		w.header = make(http.Header, 8)
	}
	clear(w.header)
	w.status, w.sent, w.err = 0, false, nil
	w.body = w.kept[:0]
}

// end sends what was collected.
func (w *response) end() error {
	w.WriteHeader(http.StatusOK)
	if !w.sent {
		w.send(w.body)
	}
	if cap(w.body) <= maxKept {
		w.kept = w.body[:0]
	}
	w.body = nil
	return w.err
}

func (w *response) send(body []byte) {
	w.sent = true
	if !hasBody(w.status) {
		body = nil
	}
	b := w.appendHead(w.out[:0], body)
	if len(body) < copyBelow {
		b = append(b, body...)
		_, w.err = w.c.nc.Write(b)
	} else {
		nc := w.c.nc
		if under, ok := nc.(interface{ NetConn() net.Conn }); ok {
			nc = under.NetConn() // so that both go in one call
		}
		bufs := net.Buffers{b, body}
		_, w.err = bufs.WriteTo(nc)
	}
	if cap(b) <= maxKept {
		w.out = b[:0]
	}
}

func (w *response) appendHead(b, body []byte) []byte {
	if w.status == http.StatusOK {
		b = append(b, "HTTP/1.1 200 OK\r\n"...)
	} else {
		b = append(b, "HTTP/1.1 "...)
		b = strconv.AppendInt(b, int64(w.status), 10)
		b = append(b, ' ')
		b = append(b, http.StatusText(w.status)...)
		b = append(b, "\r\n"...)
	}
	for name, values := range w.header {
		switch name {
		case "Content-Length", "Connection", "Transfer-Encoding", "Date":
			continue // said below
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	if _, typed := w.header["Content-Type"]; !typed && len(body) > 0 && len(w.header["Content-Encoding"]) == 0 {
		b = appendField(b, "Content-Type", http.DetectContentType(body))
	}
	if hasBody(w.status) {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	if w.c.last() {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "Date: "...)
	b = append(b, w.c.s.date()...)
	return append(b, "\r\n\r\n"...)
}

// hasBody follows RFC 9110 section 6.4.1.
func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// appendField adds a header line; a line break in a value would end it.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	if strings.ContainsAny(value, "\r\n") {
		value = lineBreaks.Replace(value)
	}
	b = append(b, value...)
	return append(b, "\r\n"...)
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

// stamp is the Date header of one second.
type stamp struct {
	second int64
	text   string
}

// date returns the time in the form of RFC 9110 section 5.6.7.
func (s *Server) date() string {
	now := time.Now()
	last := s.stamp.Load()
	if last == nil || last.second != now.Unix() {
		last = &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
		s.stamp.Store(last)
	}
	return last.text
}
