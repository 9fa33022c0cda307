package stream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/lan/stream"
)

// refusedAs waits until a connection was refused for the reason. The port closes
// a refused connection after it has counted it.
func refusedAs(t *testing.T, reg *prometheus.Registry, conn net.Conn, reason string) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	// TLS says goodbye with an alert.
	_, err := io.Copy(io.Discard, conn)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Fatal("the connection is not closed")
	}
	conn.Close()
	got := 0.0
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "landbridge_stream_refused_total" && m.GetLabel()[0].GetValue() == reason {
				got = m.GetCounter().GetValue()
			}
		}
	}
	if got != 1 {
		t.Errorf("refused as %s: %v times, want once", reason, got)
	}
}

func dialTCP(t *testing.T, p *stream.Port, first string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, first); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConnectionsRefused(t *testing.T) {
	secure := tlsConfig(t)
	for _, tt := range []struct {
		reason string
		cfg    stream.Config
		first  string
	}{
		{"garbage", stream.Config{}, "GET / HTTP/1.1\r\n"},
		{"silent", stream.Config{HandshakeTimeout: 50 * time.Millisecond}, ""},
		{"tls", stream.Config{}, "\x16\x03\x01"},
		{"tls", secure, "\x16\x03\x01\x00\x05hello"},
		{"plain", secure, "\x02"},
		{"plain", secure, "\x03"},
		{"garbage", stream.Config{}, "\x01"}, // Raft without a hello
		{"garbage", stream.Config{}, "\x03\xff\xff"},
		{"garbage", stream.Config{}, "\x03\x00\x02\xff\xff"},
		{"cluster", stream.Config{Greeter: &stream.Greeter{History: func() (string, uint64) { return "ours", 0 }}}, "\x03\x00\x08\x0a\x06theirs"},
		{"history", stream.Config{Greeter: &stream.Greeter{History: func() (string, uint64) { return "ours", 1 }}}, "\x03\x00\x06\x0a\x04ours"},
		{"server", stream.Config{Greeter: &stream.Greeter{ID: "y"}}, "\x03\x00\x03\x22\x01x"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			tt.cfg.Registerer = reg
			p, _ := listen(t, tt.cfg)
			refusedAs(t, reg, dialTCP(t, p, tt.first), tt.reason)
		})
	}
}

func TestConnectionsPerClient(t *testing.T) {
	reg := prometheus.NewRegistry()
	p, sessions := listen(t, stream.Config{Registerer: reg, MaxConnsPerClient: func() int { return 2 }})
	var last *stream.Session
	for range 2 {
		s, err := p.Dial(t.Context(), p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer s.CloseWithCause(nil)
		last = receive(t, sessions, "session")
	}
	refusedAs(t, reg, dialTCP(t, p, ""), "per_client")
	// One that ends makes room.
	last.CloseWithCause(nil)
	deadline := time.Now().Add(5 * time.Second)
	for {
		s, err := p.Dial(t.Context(), p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-sessions:
			s.CloseWithCause(nil)
			return
		case <-s.Context().Done(): // refused: the count is not down yet
		}
		if time.Now().After(deadline) {
			t.Fatal("a connection that ended makes no room")
		}
	}
}

func TestWhoIsAServer(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	server := ca.leaf("n1", "n1.east", "server.east.landbridge")
	agent := ca.leaf("laptop", "laptop.east")
	west := ca.leaf("n9", "server.west.landbridge")
	stranger := other.leaf("n1", "server.east.landbridge")
	base := stream.Config{Datacenter: "east", Domain: "landbridge"}
	with := func(t stream.TLS) stream.Config { c := base; c.TLS = t; return c }

	p, sessions := listen(t, with(stream.TLS{Incoming: ca.config(&server), Outgoing: ca.config(&server), VerifyIncoming: true, VerifyOutgoing: true, VerifyServerHostname: true}))
	addr := p.Addr().String()

	t.Run("accepted", func(t *testing.T) {
		for _, tt := range []struct {
			name   string
			cfg    stream.TLS
			server bool
		}{
			{"n1", stream.TLS{Outgoing: ca.config(&server), VerifyOutgoing: true, VerifyServerHostname: true}, true},
			{"laptop", stream.TLS{Outgoing: ca.config(&agent), VerifyOutgoing: true, VerifyServerHostname: true}, false},
			{"n9", stream.TLS{Outgoing: ca.config(&west), VerifyOutgoing: true}, false},
		} {
			s, err := dialer(t, with(tt.cfg)).Dial(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			got := receive(t, sessions, tt.name)
			if got.Peer() != tt.name || got.FromServer() != tt.server || s.Peer() != "n1" || !s.FromServer() {
				t.Errorf("%s: accepted as %q, server %v; dialed %q", tt.name, got.Peer(), got.FromServer(), s.Peer())
			}
			s.CloseWithCause(nil)
		}
	})
	t.Run("refused by the server", func(t *testing.T) {
		for name, cfg := range map[string]stream.TLS{
			"certificate of another authority": {Outgoing: ca.config(&stranger), VerifyOutgoing: true},
			"no certificate":                   {Outgoing: ca.config(nil), VerifyOutgoing: true},
		} {
			s, err := dialer(t, with(cfg)).Dial(t.Context(), addr)
			if err != nil {
				continue // TLS 1.2; in 1.3 the client learns of it with its first read
			}
			select {
			case <-s.Context().Done():
			case <-time.After(5 * time.Second):
				t.Errorf("%s: the session lives", name)
			}
			s.CloseWithCause(nil)
		}
	})
	t.Run("refused by the client", func(t *testing.T) {
		for name, cfg := range map[string]stream.Config{
			"authority": with(stream.TLS{Outgoing: other.config(&stranger), VerifyOutgoing: true}),
			"name": {Datacenter: "west", Domain: "landbridge",
				TLS: stream.TLS{Outgoing: ca.config(&server), VerifyOutgoing: true, VerifyServerHostname: true}},
		} {
			if _, err := dialer(t, cfg).Dial(t.Context(), addr); err == nil || !strings.Contains(err.Error(), addr) {
				t.Errorf("wrong %s: got %v, want an error that names %s", name, err, addr)
			}
		}
	})
	t.Run("raft", func(t *testing.T) {
		layer := p.RaftLayer()
		c, err := layer.Dial(raft.ServerAddress(addr), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := layer.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got.Close()

		q, _ := listen(t, with(stream.TLS{Outgoing: ca.config(&agent), VerifyOutgoing: true}))
		if c, err := q.RaftLayer().Dial(raft.ServerAddress(addr), 5*time.Second); err == nil {
			c.Close()
			t.Error("a client agent's certificate speaks Raft")
		} else if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a client agent's certificate is not told off: %v", err)
		}
	})
}

// A Raft group lets in who belongs to it or to none yet, means this server, and
// holds no other history; both ends are told why.
func TestRaftHello(t *testing.T) {
	type side struct {
		id, cluster string
		recoveries  uint64
		calls       string
	}
	greeter := func(s side) stream.Config {
		return stream.Config{Greeter: &stream.Greeter{ID: s.id,
			History: func() (string, uint64) { return s.cluster, s.recoveries }, Holder: func(string) string { return s.calls }}}
	}
	for _, tt := range []struct {
		name     string
		from, to side
		why      string // "": it is let in
	}{
		{name: "two new servers"},
		{name: "a new server is called", from: side{cluster: "a", calls: "y"}, to: side{id: "y"}},
		{name: "a new server calls", to: side{cluster: "a", recoveries: 2}},
		{name: "two of a group", from: side{"x", "a", 1, "y"}, to: side{"y", "a", 1, ""}},
		{name: "another cluster", from: side{cluster: "a"}, to: side{cluster: "b"}, why: "its server belongs to cluster b, this one to a"},
		{name: "the past calls", from: side{cluster: "a"}, to: side{cluster: "a", recoveries: 1}, why: "this server holds a past that the group has left by recovery 1"},
		{name: "the past is called", from: side{cluster: "a", recoveries: 1}, to: side{cluster: "a"}, why: "its server was left out by recovery 1"},
		{name: "who had the address before", from: side{"x", "a", 0, "old"}, to: side{"y", "a", 0, ""}, why: "server x calls old, this is y"},
		{name: "too long a name", from: side{cluster: strings.Repeat("long", 1000)}, to: side{cluster: "a"}, why: "a hello of 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, _ := listen(t, greeter(tt.from))
			to, _ := listen(t, greeter(tt.to))
			c, err := from.RaftLayer().Dial(raft.ServerAddress(to.Addr().String()), 5*time.Second)
			if err == nil {
				c.Close()
			}
			if (err != nil) != (tt.why != "") || err != nil && !strings.Contains(err.Error(), tt.why) {
				t.Errorf("dial: %v, want %q", err, tt.why)
			}
		})
	}
}

// Raft's own transport runs over the port, beside sessions.
func TestRaftTransport(t *testing.T) {
	for name, cfg := range map[string]stream.Config{"TCP": {}, "TLS": tlsConfig(t)} {
		t.Run(name, func(t *testing.T) {
			var trans [2]*raft.NetworkTransport
			for i := range trans {
				p, _ := listen(t, cfg)
				trans[i] = raft.NewNetworkTransport(p.RaftLayer(), 2, time.Second, io.Discard)
				defer trans[i].Close()
			}
			go func() {
				r := <-trans[1].Consumer()
				r.Respond(&raft.RequestVoteResponse{Term: r.Command.(*raft.RequestVoteRequest).Term + 1, Granted: true}, nil)
			}()
			var resp raft.RequestVoteResponse
			if err := trans[0].RequestVote("n2", trans[1].LocalAddr(), &raft.RequestVoteRequest{Term: 6}, &resp); err != nil {
				t.Fatal(err)
			}
			if resp.Term != 7 || !resp.Granted {
				t.Errorf("got %+v", resp)
			}
		})
	}
}

func TestDialIsBounded(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cfg := tlsConfig(t)
	cfg.HandshakeTimeout = 50 * time.Millisecond
	begin := time.Now()
	if _, err := dialer(t, cfg).Dial(t.Context(), silent.Addr().String()); err == nil {
		t.Error("a handshake with a silent server succeeded")
	}
	cfg.HandshakeTimeout = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dialer(t, cfg).Dial(ctx, silent.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's end", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestLifecycle(t *testing.T) {
	ctx := t.Context()
	t.Run("stop before start, twice", func(t *testing.T) {
		p, err := stream.Listen(stream.Config{Bind: loopback})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := p.Stop(ctx); err != nil {
				t.Error(err)
			}
		}
		p.OnSession(func(*stream.Session) {})
		if err := p.Start(ctx); err == nil {
			t.Error("started after stop")
		}
	})
	t.Run("start without a function", func(t *testing.T) {
		p, err := stream.Listen(stream.Config{Bind: loopback})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Stop(ctx)
		if err := p.Start(ctx); err == nil {
			t.Error("started")
		}
	})
	t.Run("stop ends sessions and raft connections", func(t *testing.T) {
		p, sessions := listen(t, stream.Config{})
		s, err := p.Dial(ctx, p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		receive(t, sessions, "session")
		c, err := p.RaftLayer().Dial(raft.ServerAddress(p.Addr().String()), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.RaftLayer().Accept(); err != nil {
			t.Fatal(err)
		}
		silent := dialTCP(t, p, "")
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
		receive(t, s.Context().Done(), "the session's end")
		s.CloseWithCause(nil)
		for _, c := range []net.Conn{c, silent} {
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a connection outlives the port: %v", err)
			}
			c.Close()
		}
		if _, err := p.RaftLayer().Accept(); err == nil {
			t.Error("accepted after stop")
		}
	})
	t.Run("address taken", func(t *testing.T) {
		p, _ := listen(t, stream.Config{})
		addr := p.Addr().(*net.TCPAddr).AddrPort()
		if _, err := stream.Listen(stream.Config{Bind: addr}); err == nil || !strings.Contains(err.Error(), addr.String()) {
			t.Errorf("got %v, want an error that names %s", err, addr)
		}
	})
}

func TestConfigNamesAllProblems(t *testing.T) {
	_, err := stream.NewDialer(stream.Config{TLS: stream.TLS{VerifyIncoming: true, VerifyOutgoing: true, VerifyServerHostname: true}})
	for _, want := range []string{"verify_incoming", "verify_outgoing", "verify_server_hostname"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestMetricsExistFromTheStart(t *testing.T) {
	reg := prometheus.NewRegistry()
	listen(t, stream.Config{Registerer: reg})
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 14 {
		t.Errorf("%d series, %v; want 14", n, err)
	}
}
