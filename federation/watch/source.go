package watch

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// Source answers a plan's requests.
type Source interface {
	// Get asks for path, which is escaped. A token that is not empty replaces the
	// source's own. The error says that there was no answer; any status is one.
	Get(ctx context.Context, path string, query url.Values, token string) (*Answer, error)
}

// Answer is an answer of the HTTP interface.
type Answer struct {
	Status int
	Index  uint64 // X-Consul-Index, 0 if there was none
	Hash   string // X-Consul-ContentHash
	Body   []byte
}

// NewAnswer reads from an answer's header what plans need.
func NewAnswer(status int, h http.Header, body []byte) *Answer {
	index, err := strconv.ParseUint(h.Get("X-Consul-Index"), 10, 64)
	if err != nil {
		index = 0
	}
	return &Answer{Status: status, Index: index, Hash: h.Get("X-Consul-ContentHash"), Body: body}
}

// InProcess asks an HTTP handler of this process, without a connection: an agent
// may listen on a socket file, for TLS alone, or nowhere.
func InProcess(h http.Handler) Source { return inProcess{h} }

type inProcess struct{ h http.Handler }

func (s inProcess) Get(ctx context.Context, path string, query url.Values, token string) (a *Answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	defer func() {
		// Handlers end an answer they cannot finish so. Anything else is a bug that
		// is not ours to hide.
		if p := recover(); p == http.ErrAbortHandler {
			err = fmt.Errorf("GET %s: the answer was broken off", path)
		} else if p != nil {
			panic(p)
		}
	}()
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	s.h.ServeHTTP(w, req)
	return NewAnswer(w.status, w.header, w.body.Bytes()), nil
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if !w.wrote {
		w.status, w.wrote = status, true
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.wrote = true
	return w.body.Write(b)
}
