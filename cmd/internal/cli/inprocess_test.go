package cli

import (
	"io"
	"net/http"
	"testing"

	"landbridge/cmd/internal/client"
)

// inProcess carries requests to a handler without a network: in virtual time.
type inProcess struct{ http.Handler }

// newInProcess makes a client of a handler.
func newInProcess(t *testing.T, h http.Handler, token string) *client.Client {
	t.Helper()
	cl, err := client.New(client.Options{Transport: inProcess{h}, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	in := req.Clone(req.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	body, out := io.Pipe()
	w := &replyWriter{PipeWriter: out, header: http.Header{}, begun: make(chan int, 1)}
	go func() {
		p.ServeHTTP(w, in)
		w.Flush()
		_ = out.Close()
	}()
	select {
	case code := <-w.begun:
		return &http.Response{StatusCode: code, Header: w.header, Body: body, Request: req}, nil
	case <-req.Context().Done():
		_ = body.Close()
		return nil, req.Context().Err()
	}
}

// replyWriter is what a handler of inProcess writes to.
type replyWriter struct {
	*io.PipeWriter
	header http.Header
	begun  chan int
	wrote  bool
}

func (a *replyWriter) Header() http.Header { return a.header }

func (a *replyWriter) WriteHeader(code int) {
	if !a.wrote {
		a.wrote = true
		a.begun <- code
	}
}

func (a *replyWriter) Flush() { a.WriteHeader(http.StatusOK) }

func (a *replyWriter) Write(b []byte) (int, error) {
	a.Flush()
	return a.PipeWriter.Write(b)
}
