package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// bytesThen is an answer's stream of some bytes and an error.
type bytesThen struct {
	text string
	err  error
}

func (b bytesThen) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, b.text)
	if err == nil {
		err = b.err
	}
	return int64(n), err
}
func (bytesThen) Close() error { return nil }

// serving runs a front end whose requests do answers, on a socket.
func serving(t *testing.T, do rpc.DoerFunc) (url string, _ *http.Client) {
	t.Helper()
	n := newNode(t, func(c *Config) { c.Do = do })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Serve(ln) }()
	cl := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	t.Cleanup(func() {
		cl.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(n.Stop(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String() + "/v1/snapshot", cl
}

func TestSnapshotSave(t *testing.T) {
	var last rpc.Request
	answer := bytesThen{text: strings.Repeat("archive", 100_000)}
	var refuse error
	url, cl := serving(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
		last = *req
		if refuse != nil {
			return nil, refuse
		}
		return &rpc.Response{Index: 417, KnownLeader: true, LastContact: 20 * time.Millisecond, Stream: answer}, nil
	})
	get := func(query string) (*http.Response, []byte, error) {
		t.Helper()
		resp, err := cl.Get(url + query)
		if err != nil {
			return &http.Response{}, nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, b, err
	}
	resp, b, err := get("?dc=dc2&stale&token=t")
	if err != nil || resp.StatusCode != 200 || string(b) != answer.text {
		t.Fatalf("%d, %d bytes, %v", resp.StatusCode, len(b), err)
	}
	for name, want := range map[string]string{"Content-Type": "application/x-gzip", "X-Consul-Index": "417", "X-Consul-KnownLeader": "true",
		"X-Consul-LastContact": "20", "X-Consul-Query-Backend": "blocking-query", "Content-Encoding": ""} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if last.Method != rpc.SnapshotSave || last.Datacenter != "dc2" || last.Consistency != store.Stale || last.Token != "t" {
		t.Errorf("request %+v", last)
	}
	// What breaks off never looks whole.
	answer = bytesThen{strings.Repeat("part", 10_000), errors.New("lost")}
	if _, b, err := get(""); err == nil {
		t.Errorf("%d bytes of a snapshot that broke off, and no error", len(b))
	}
	// An error before the first byte is one like any other.
	answer = bytesThen{"", store.Errorf(store.KindUnreachable, "the server has gone")}
	if resp, b, err := get(""); err != nil || resp.StatusCode != 500 || string(b) != "the server has gone" {
		t.Errorf("%d %q %v", resp.StatusCode, b, err)
	}
	refuse = store.ErrNoPath
	if resp, b, err := get(""); err != nil || resp.StatusCode != 500 || string(b) != "No path to datacenter" {
		t.Errorf("%d %q %v", resp.StatusCode, b, err)
	}
}

func TestSnapshotRestore(t *testing.T) {
	var got []byte
	early := false
	url, cl := serving(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
		if req.Method != rpc.SnapshotRestore {
			t.Errorf("method %d", req.Method)
		}
		defer req.Upload.Close()
		if early {
			return nil, store.Errorf(store.KindConflict, "another restore is under way")
		}
		var err error
		if got, err = io.ReadAll(req.Upload); err != nil {
			return nil, err
		}
		if string(got) == "bad" {
			return nil, store.Errorf(store.KindInvalid, "failed to decompress snapshot: unexpected EOF")
		}
		return &rpc.Response{Index: 9}, nil
	})
	put := func(body io.Reader) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPut, url, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := cl.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	big := bytes.Repeat([]byte("archive!"), 1<<20)
	for range 3 { // the connection is fit for the next request each time
		if code, body := put(bytes.NewReader(big)); code != 200 || body != "" || !bytes.Equal(got, big) {
			t.Errorf("%d %q, %d bytes arrived", code, body, len(got))
		}
		if code, body := put(strings.NewReader("bad")); code != 500 || body != "failed to decompress snapshot: unexpected EOF" {
			t.Errorf("%d %q", code, body)
		}
	}
	if code, _ := put(nil); code != 200 || len(got) != 0 {
		t.Errorf("no body: %d", code)
	}
	// A refusal reaches a client that has more to send.
	early = true
	r, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte("first")) // and then nothing for long
	if code, body := put(r); code != 409 || body != "another restore is under way" {
		t.Errorf("%d %q", code, body)
	}
}

// A client that leaves in the middle is an error for whoever reads.
func TestSnapshotRestoreBrokenOff(t *testing.T) {
	seen := make(chan error, 1)
	url, _ := serving(t, func(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
		_, err := io.ReadAll(req.Upload)
		seen <- err
		return nil, err
	})
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/v1/snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "PUT /v1/snapshot HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
	conn.Close()
	if err := <-seen; store.KindOf(err) != store.KindBadRequest {
		t.Errorf("got %v", err)
	}
}
