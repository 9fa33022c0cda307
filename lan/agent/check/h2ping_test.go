package check

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"landbridge/store"
)

func TestH2Ping(t *testing.T) {
	h2, secure := server(t, false, http.NotFoundHandler()), server(t, true, http.NotFoundHandler())
	at, safe, nobody := h2.Listener.Addr().String(), secure.Listener.Addr().String(), closedPort
	trusts := trusting(secure)
	h1 := listenTLS(t, secure.TLS.Certificates)
	for name, c := range map[string]struct {
		probe          H2Ping
		status, output string
	}{
		"prior knowledge":   {H2Ping{Address: at}, store.Passing, "HTTP2 ping was successful"},
		"tls":               {H2Ping{Address: safe, TLS: &trusts}, store.Passing, "HTTP2 ping was successful"},
		"skip verify":       {H2Ping{Address: safe, TLS: &TLS{SkipVerify: true}}, store.Passing, "HTTP2 ping was successful"},
		"unknown authority": {H2Ping{Address: safe, TLS: &TLS{}}, store.Critical, "HTTP2 ping failed: " + unknownAuthority},
		"refused":           {H2Ping{Address: nobody}, store.Critical, "HTTP2 ping failed: dial tcp " + nobody + ": connect: connection refused"},
		"tls not spoken":    {H2Ping{Address: at, TLS: &trusts}, store.Critical, "HTTP2 ping failed: tls: first record does not look like a TLS handshake"},
		"no ALPN":           {H2Ping{Address: h1, TLS: &TLS{SkipVerify: true}}, store.Critical, `HTTP2 ping failed: unexpected ALPN protocol ""; want "h2"`},
	} {
		t.Run(name, func(t *testing.T) { wants(t, &c.probe, c.status, c.output) })
	}
}

// listenTLS is a server that knows no ALPN.
func listenTLS(t *testing.T, certs []tls.Certificate) string {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certs})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// TestH2PingFrames plays servers by the bytes they send.
func TestH2PingFrames(t *testing.T) {
	const settings, settingsAck = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
	ping := func(flags byte, data string) string {
		return "\x00\x00\x08\x06" + string(flags) + "\x00\x00\x00\x00" + data
	}
	window := "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x01\x00\x00"
	for name, c := range map[string]struct{ says, wrote, err string }{
		"answer at once":       {settings + ping(1, "theping!"), settingsAck, ""},
		"other frames first":   {settings + settingsAck + window + ping(1, "theping!"), settingsAck, ""},
		"its own ping":         {settings + ping(0, "notmine!") + ping(1, "theping!"), settingsAck + ping(1, "notmine!"), ""},
		"answer to another":    {settings + ping(1, "another!") + ping(1, "theping!"), settingsAck, ""},
		"goes away":            {settings + "\x00\x00\x0a\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0bhi", settingsAck, "the server says GOAWAY, error code 11"},
		"HTTP/1.1":             {"HTTP/1.1 400 Bad Request\r\n\r\n", "", "the server does not speak HTTP/2"},
		"no settings first":    {ping(1, "theping!"), "", "the server does not speak HTTP/2"},
		"large frame":          {settings + "\x01\x00\x00\x00\x00\x00\x00\x00\x00", settingsAck, "the server does not speak HTTP/2"},
		"ping of another size": {settings + "\x00\x00\x04\x06\x01\x00\x00\x00\x00abcd", settingsAck, "a PING frame of 4 bytes"},
		"closes":               {settings, settingsAck, "the server closed the connection"},
		"closes within":        {settings + "\x00\x00\x08\x06\x01\x00\x00\x00\x00abcd", settingsAck, "the server closed the connection"},
		"closes at once":       {"", "", "the server closed the connection"},
		"talks without end":    {settings + string(bytes.Repeat([]byte(window), h2MaxFrames)), settingsAck, "the server sends frames and does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &said{Reader: bytes.NewReader([]byte(c.says))}
			err := h2ping(s, [8]byte([]byte("theping!")))
			if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("got %v, want %s", err, c.err)
			}
			begin := h2Preface + settings + ping(0, "theping!")
			if got := s.wrote.String(); got != begin+c.wrote {
				t.Errorf("wrote %q, want %q", got, begin+c.wrote)
			}
		})
	}
}

// said is a peer that has said all it will say.
type said struct {
	io.Reader
	wrote bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) { return s.wrote.Write(p) }

func FuzzH2Ping(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x06\x01\x00\x00\x00\x00theping!"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, says []byte) {
		s := &said{Reader: bytes.NewReader(says)}
		err := h2ping(s, [8]byte([]byte("theping!")))
		if err == nil && !bytes.Contains(says, []byte("theping!")) {
			t.Errorf("a success without an answer: %q", says)
		}
		// What is written is bounded by what is read: an answer for each frame.
		if got, most := s.wrote.Len(), 60+2*len(says); got > most {
			t.Errorf("%d bytes written for %d read", got, len(says))
		}
	})
}
