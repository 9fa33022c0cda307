package httpapi

import (
	"errors"
	"net"
	"strings"
	"sync"

	"landbridge/federation/httpapi/h1"
)

// kind tells h1 which requests it can answer: all but streams, whose answer comes
// in pieces. Queries with index or hash may wait for a change.
func (s *Server) kind(_, target string) h1.Kind {
	path, query, _ := strings.Cut(target, "?")
	ep, _ := s.table.find(path)
	if ep == nil || ep.stream {
		return h1.General
	}
	kind := h1.Quick
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, _, _ := strings.Cut(pair, "=")
		switch {
		case key == "index" || key == "hash":
			kind = h1.Waiting
		case strings.ContainsAny(key, "%+"): // would have to be decoded first
			return h1.General
		}
	}
	return kind
}

// handOver gives a connection to net/http for good.
func (s *Server) handOver(c net.Conn) {
	s.metrics.handed.Inc()
	select {
	case s.handed.conns <- c:
	case <-s.handed.closed:
		_ = c.Close()
	}
}

// handover is the listener of the connections that are handed over.
type handover struct {
	conns   chan net.Conn
	closed  chan struct{}
	close   sync.Once
	serve   sync.Once
	serving sync.WaitGroup
	err     error // of net/http's loop, when serving is done
}

func (h *handover) init() {
	h.conns, h.closed = make(chan net.Conn), make(chan struct{})
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, errors.New("no connections are handed over any more")
	}
}

func (h *handover) Close() error {
	h.close.Do(func() { close(h.closed) })
	return nil
}

// Addr is nobody's: connections know where they came from.
func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }
