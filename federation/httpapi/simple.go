package httpapi

import (
	"errors"
	"net"
	"strings"
	"sync"
)

// isSimple is whether a request can be answered by h1: one that ends by itself, so
// that nobody needs to notice its client leaving, and whose answer comes at once.
func (s *Server) isSimple(_, target string) bool {
	path, query, _ := strings.Cut(target, "?")
	ep, _ := s.table.find(path)
	if ep == nil || ep.stream {
		return false
	}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, _, _ := strings.Cut(pair, "=")
		// A blocking query; or a name that has to be decoded first.
		if key == "index" || key == "hash" || strings.ContainsAny(key, "%+") {
			return false
		}
	}
	return true
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
