package dnsapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// listen starts a server on loopback; it is stopped with the test.
func listen(t *testing.T, addr string, change func(*Config)) (*Server, *prometheus.Registry, netip.AddrPort) {
	t.Helper()
	reg := prometheus.NewRegistry()
	s := newServer(func(c *Config) {
		c.Registerer = reg
		if change != nil {
			change(c)
		}
	})
	at, err := s.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, reg, netip.MustParseAddrPort(at.String())
}

// dial is a client's socket with a deadline that only a broken test meets.
func dial(t *testing.T, network string, to netip.AddrPort) *dns.Conn {
	t.Helper()
	conn, err := dns.DialTimeout(network, to.String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	conn.UDPSize = dns.MaxMsgSize
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { conn.Close() })
	return conn
}

func ask(t *testing.T, conn *dns.Conn, name string, qtype uint16) *dns.Msg {
	t.Helper()
	r := new(dns.Msg)
	r.SetQuestion(name, qtype)
	if err := conn.WriteMsg(r); err != nil {
		t.Fatal(err)
	}
	return receive(t, conn, name)
}

func receive(t *testing.T, conn *dns.Conn, name string) *dns.Msg {
	t.Helper()
	m, err := conn.ReadMsg()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(m.Question) > 0 && m.Question[0].Name != name {
		t.Fatalf("got the answer to %s, want %s", m.Question[0].Name, name)
	}
	return m
}

// slow is a backend that has answers for names that begin with slow only after a
// while, like a server far away.
type slow struct {
	catalog
	asked   chan string
	release chan struct{}
}

func (s *slow) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if !strings.HasPrefix(req.Query.Name, "slow") {
		return s.catalog.Do(ctx, req)
	}
	if req.NoWait {
		return nil, rpc.ErrWouldWait
	}
	s.asked <- req.Query.Name
	select {
	case <-s.release:
	case <-ctx.Done():
		return nil, store.Errorf(store.KindTimeout, "%w", ctx.Err())
	}
	plain := *req
	plain.Query.Name = "web"
	if req.Method == rpc.CatalogNode {
		plain.Query.Name = "alpha"
	}
	return s.catalog.Do(ctx, &plain)
}

// A question whose answer has to come from far holds up nobody, at either way of
// answering it, and stopping waits for it.
func TestSlowQuestions(t *testing.T) {
	backend := &slow{catalog: town(), asked: make(chan string), release: make(chan struct{})}
	s, reg, at := listen(t, "127.0.0.1:0", func(c *Config) { c.Do = backend })
	waiting := dial(t, "udp", at)
	names := []string{"slow1.service.consul.", "slow2.service.consul.", "slow3.node.consul."}
	for i, name := range names {
		r := new(dns.Msg)
		r.SetQuestion(name, []uint16{dns.TypeA, dns.TypeTXT, dns.TypeA}[i])
		if err := waiting.WriteMsg(r); err != nil {
			t.Fatal(err)
		}
		<-backend.asked
	}
	for range 4 * maxSockets { // on every socket
		if m := ask(t, dial(t, "udp", at), "web.service.consul.", dns.TypeA); len(m.Answer) != 2 {
			t.Fatalf("beside slow questions: %v", m)
		}
	}
	if n := len(s.slots); n != len(names) {
		t.Errorf("%d questions wait, want %d", n, len(names))
	}
	stopped := make(chan error)
	go func() { stopped <- s.Stop(context.Background()) }()
	s.serving.Wait() // reads no more
	select {
	case err := <-stopped:
		t.Errorf("stopped (%v) with questions under way", err)
	default:
	}
	close(backend.release)
	for range names {
		m, err := waiting.ReadMsg()
		if err != nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
			t.Errorf("a slow question: %v, %v", m, err)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := counted(t, reg, "udp", "hot", "NOERROR"); n < 4*maxSockets {
		t.Errorf("%v answers of the hot path, want at least %d", n, 4*maxSockets)
	}
}

func counted(t *testing.T, reg *prometheus.Registry, transport, path, rcode string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "landbridge_dnsapi_questions_total" {
			continue
		}
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["transport"] == transport && labels["path"] == path && labels["rcode"] == rcode {
				return m.Counter.GetValue()
			}
		}
	}
	t.Fatalf("no series for %s, %s, %s", transport, path, rcode)
	return 0
}

// A stop that is not waited for ends what waits.
func TestStopInVain(t *testing.T) {
	backend := &slow{catalog: town(), asked: make(chan string), release: make(chan struct{})}
	s, _, at := listen(t, "127.0.0.1:0", func(c *Config) { c.Do = backend })
	conn := dial(t, "udp", at)
	r := new(dns.Msg)
	r.SetQuestion("slow.service.consul.", dns.TypeA)
	if err := conn.WriteMsg(r); err != nil {
		t.Fatal(err)
	}
	<-backend.asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop: %v, want that it was cancelled", err)
	}
	if m, err := conn.ReadMsg(); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("the question under way: %v, %v; want SERVFAIL", m, err)
	}
	if _, err := s.Listen("127.0.0.1:0"); err == nil {
		t.Error("listens after it was stopped")
	}
}

// More questions than may wait are told so at once.
func TestTooManySlowQuestions(t *testing.T) {
	s, reg, at := listen(t, "127.0.0.1:0", nil)
	for range maxWaiting {
		s.slots <- struct{}{}
	}
	conn := dial(t, "udp", at)
	if m := ask(t, conn, "web.service.consul.", dns.TypeA); m.Rcode != dns.RcodeSuccess {
		t.Errorf("an answer at hand: %v", m)
	}
	if m := ask(t, conn, "web.service.consul.", dns.TypeTXT); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("one that may wait: %v, want SERVFAIL", m)
	}
	if n := testutil.ToFloat64(s.metrics.busy); n != 1 {
		t.Errorf("%v busy answers counted, want 1", n)
	}
	for range maxWaiting {
		<-s.slots
	}
	if err := s.Stop(context.Background()); err != nil { // an answer is counted after it was sent
		t.Fatal(err)
	}
	if n := counted(t, reg, "udp", "full", "SERVFAIL"); n != 1 {
		t.Errorf("%v SERVFAIL counted, want 1", n)
	}
}

// An answer leaves from the address that was asked, also where the socket is bound
// to all of them: a client takes no other.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	for _, c := range []struct {
		bind  string
		asked []string
	}{
		{"0.0.0.0:0", []string{"127.0.0.1", "127.64.9.9"}},
		{"[::]:0", []string{"::1", "127.0.0.1", "127.64.9.9"}},
	} {
		if strings.HasPrefix(c.bind, "[") {
			probe, err := net.Listen("tcp", "[::1]:0")
			if err != nil {
				t.Logf("no IPv6 here: %v", err)
				continue
			}
			probe.Close()
		}
		_, _, at := listen(t, c.bind, nil)
		for _, ip := range c.asked {
			to := netip.AddrPortFrom(netip.MustParseAddr(ip), at.Port())
			for _, network := range []string{"udp", "tcp"} {
				conn := dial(t, network, to)
				for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT} { // both ways of answering
					if m := ask(t, conn, "web.service.consul.", qtype); len(m.Answer) != 2 {
						t.Errorf("%s on %s by %s: %v", ip, c.bind, network, m)
					}
				}
			}
		}
	}
}

// A port that another agent has is refused, though UDP sockets share theirs.
func TestPortInUse(t *testing.T) {
	_, _, at := listen(t, "127.0.0.1:0", nil)
	if _, err := newServer(nil).Listen(at.String()); err == nil {
		t.Error("two servers listen on one address")
	}
	if _, err := newServer(nil).Listen("nonsense"); err == nil {
		t.Error("listens on nonsense")
	}
}

// Messages that cannot be read are counted, and answered up to a bound.
func TestMalformed(t *testing.T) {
	s, reg, at := listen(t, "127.0.0.1:0", nil)
	conn := dial(t, "udp", at)
	bad := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 64}
	for i := 0; i < 3*maxMalformed; i++ {
		if _, err := conn.Write(bad); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 { // not more than a socket holds
			settle(t, conn)
		}
	}
	ignore := [][]byte{{}, bad[:headerSize-1], append([]byte{0x12, 0x34, 0x81, 0}, bad[4:]...)}
	for _, pkt := range ignore {
		if _, err := conn.Write(pkt); err != nil {
			t.Fatal(err)
		}
	}
	// Datagrams of one client come to one socket, in order: when this is answered
	// the others were seen.
	settle(t, conn)
	idle(s)
	if n := testutil.ToFloat64(s.metrics.malformed[0]); n != 3*maxMalformed+2 {
		t.Errorf("%v malformed messages counted, want %d", n, 3*maxMalformed+2)
	}
	sent := counted(t, reg, "udp", "full", "FORMERR")
	left := testutil.ToFloat64(s.metrics.ignored[0][ignoredMalformed])
	if sent+left != 3*maxMalformed || sent < maxMalformed {
		t.Errorf("%v FORMERR, %v left out, of %d", sent, left, 3*maxMalformed)
	}
	if n := testutil.ToFloat64(s.metrics.ignored[0][ignoredShort]); n != 2 {
		t.Errorf("%v short messages, want 2", n)
	}
	if n := testutil.ToFloat64(s.metrics.ignored[0][ignoredResponse]); n != 1 {
		t.Errorf("%v responses, want 1", n)
	}
	var limit perSecond
	now := time.Unix(1e9, 0)
	allowed := 0
	for range 3 * maxMalformed {
		if limit.allow(now) {
			allowed++
		}
	}
	if allowed != maxMalformed || !limit.allow(now.Add(time.Second)) {
		t.Errorf("%d allowed in a second, want %d, and more in the next", allowed, maxMalformed)
	}
}

// idle returns when no question waits.
func idle(s *Server) {
	for range maxWaiting {
		s.slots <- struct{}{}
	}
	for range maxWaiting {
		<-s.slots
	}
}

// settle returns when all that was sent before was read.
func settle(t *testing.T, conn *dns.Conn) {
	t.Helper()
	if _, err := conn.Conn.Write(packet(t, "web.service.consul.", dns.TypeA, 0)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 512)
	for n := 0; n <= headerSize; { // past the answers that are a header alone
		var err error
		if n, err = conn.Conn.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}

// TCP connections are bounded.
func TestConnectionLimit(t *testing.T) {
	s := newServer(nil)
	l := &limitedListener{s: s, conns: map[netip.Addr]int{}}
	one := netip.MustParseAddr("192.0.2.1")
	for i := range maxConnsClient {
		if !l.take(one) {
			t.Fatalf("connection %d of one client refused", i)
		}
	}
	if l.take(one) {
		t.Error("one more than a client may have")
	}
	for i := l.n; i < maxConns; i++ {
		if !l.take(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})) {
			t.Fatalf("connection %d refused", i)
		}
	}
	if l.take(netip.MustParseAddr("192.0.2.2")) {
		t.Error("one more than there may be")
	}
	l.free(one)
	if !l.take(one) {
		t.Error("refused after one ended")
	}
	a, b := net.Pipe()
	defer b.Close()
	freed := 0
	c := &limitedConn{Conn: a, done: func() { freed++ }}
	if err := errors.Join(c.Close(), c.Close()); err != nil || freed != 2 {
		t.Errorf("closed twice: %v, freed %d", err, freed)
	}
}

// A bug met by one question ends neither the agent nor the loop.
func TestPanic(t *testing.T) {
	backend := rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		if req.Query.Name == "bug" {
			panic("bug")
		}
		return town().Do(ctx, req)
	})
	s, _, at := listen(t, "127.0.0.1:0", func(c *Config) { c.Do = backend })
	for i, qtype := range []uint16{dns.TypeA, dns.TypeTXT} {
		conn := dial(t, "udp", at)
		r := new(dns.Msg)
		r.SetQuestion("bug.service.consul.", qtype)
		if err := conn.WriteMsg(r); err != nil {
			t.Fatal(err)
		}
		if m := ask(t, conn, "web.service.consul.", dns.TypeA); len(m.Answer) != 2 {
			t.Errorf("after a bug: %v", m)
		}
		idle(s)
		if n := testutil.ToFloat64(s.metrics.panics); n != float64(i+1) {
			t.Errorf("%v panics counted, want %d", n, i+1)
		}
	}
}

// Every order of answers is as likely as any other, on both paths.
func TestShuffleIsFair(t *testing.T) {
	const instances, shown, rounds = 5, 3, 60 * 120
	c := catalog{}
	for i := range instances {
		c.add("dc1", inst(fmt.Sprintf("n%d", i), fmt.Sprintf("10.0.0.%d", i), "web", "web", "", 80+i, "passing"))
	}
	s := newServer(func(cfg *Config) { cfg.Do = c })
	seeded(s, 42)
	rng := s.newRand()
	w := s.newWorker()
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
		pkt := packet(t, "web.service.consul.", qtype, 0)
		for _, way := range []struct {
			name   string
			answer func() []byte
		}{
			{"hot", func() []byte {
				if s.answerHot(t.Context(), w, pkt, time.Now(), true) != answered {
					t.Fatal("not hot")
				}
				return w.out
			}},
			{"full", func() []byte {
				seeded(s, rng.Uint64())
				r := new(dns.Msg)
				if err := r.Unpack(pkt); err != nil {
					t.Fatal(err)
				}
				m, _ := s.answer(t.Context(), r, noClient, false, time.Now())
				b, _ := s.pack(m, r)
				return b
			}},
		} {
			seen := map[string]int{}
			n := rounds
			if way.name == "full" {
				n /= 2
			}
			for range n {
				seen[string(order(way.answer(), qtype))]++
			}
			// 60 ordered choices of 3 out of 5: chi-squared with 59 degrees of freedom is
			// above 110 once in ten thousand; the seed is fixed.
			want := float64(n) / 60
			chi := (60 - float64(len(seen))) * want
			for _, got := range seen {
				chi += math.Pow(float64(got)-want, 2) / want
			}
			if len(seen) != 60 || chi > 110 {
				t.Errorf("%s, %s: %d orders of 60, chi-squared %.1f", way.name, dns.TypeToString[qtype], len(seen), chi)
			}
		}
	}
}

// order reads which instances an answer shows: the last byte of an address, or of
// a port, of each record.
func order(b []byte, qtype uint16) []byte {
	var out []byte
	at := headerSize + len("\x03web\x07service\x06consul\x00") + 4
	for range b[7] {
		size := int(b[at+11])
		last := at + 11 + size
		if qtype == dns.TypeSRV {
			last = at + 17
		}
		out = append(out, b[last])
		at += 12 + size
	}
	return out
}

// What an answer was made of is kept as long as it is true.
func TestCache(t *testing.T) {
	var mu sync.Mutex
	var copies bool // a backend behind a network
	c := town()
	backend := rpc.DoerFunc(func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		resp, err := c.Do(ctx, req)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && copies {
			resp.Body = bytes.Clone(resp.Body)
		}
		return resp, err
	})
	token := "one"
	s := newServer(func(cfg *Config) { cfg.Do, cfg.Token = backend, func() string { return token } })
	find := func(name string, qtype uint16) *found {
		t.Helper()
		w := s.newWorker()
		pkt := packet(t, name, qtype, 0)
		var h hotQuestion
		if !s.readHot(w, pkt, &h) {
			t.Fatalf("%s is not hot", name)
		}
		f, err := s.lookup(t.Context(), s.settings.Load(), &w.q, w.q.appendKey(nil), true)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return f
	}
	first := find("web.service.consul.", dns.TypeA)
	for _, same := range []string{"web.service.consul.", "WEB.Service.consul.", "_web._tcp.consul.", "web.service.corp.example."} {
		if find(same, dns.TypeSRV) != first {
			t.Errorf("%s: made again of the same", same)
		}
	}
	for _, other := range []string{"v1.web.service.consul.", "web.service.dc1.consul.", "web.service.dc2.consul."} {
		if find(other, dns.TypeA) == first {
			t.Errorf("%s: answered like web.service.consul.", other)
		}
	}
	copies = true
	if find("web.service.consul.", dns.TypeA) != first {
		t.Error("made again of equal bytes")
	}
	copies = false
	c.add("dc1", inst("new", "10.0.0.77", "web", "web", "", 80, "passing"))
	second := find("web.service.consul.", dns.TypeA)
	if len(second.v4) != len(first.v4)+1 {
		t.Errorf("%d addresses after one more came, want %d", len(second.v4), len(first.v4)+1)
	}
	node := find("alpha.node.consul.", dns.TypeA)
	if find("ALPHA.node.consul.", dns.TypeA) != node {
		t.Error("a node made again of the same")
	}
	token = "two"
	if find("web.service.consul.", dns.TypeA) == second {
		t.Error("another token sees what the first one saw")
	}
	set := *s.settings.Load()
	set.ServiceTTL = map[string]time.Duration{"*": 5 * time.Second}
	s.Reload(set)
	if f := find("web.service.consul.", dns.TypeA); f.ttl != 5 {
		t.Errorf("TTL %d after a reload, want 5", f.ttl)
	}
	used := s.cache.bytes.Load()
	for i := range 500 {
		w := s.newWorker()
		s.answerHot(t.Context(), w, packet(t, fmt.Sprintf("none%d.service.consul.", i), dns.TypeA, 0), time.Now(), true)
	}
	if now := s.cache.bytes.Load(); now != used {
		t.Errorf("names that nobody has took %d bytes", now-used)
	}
}

// The cache keeps within its bound, and its account of it is right.
func TestCacheIsBounded(t *testing.T) {
	c := cache{seed: maphash.MakeSeed()}
	set := new(Settings)
	for i := range 600 {
		c.put(&entry{key: fmt.Sprint(i % 200), set: set, body: make([]byte, 300<<10)})
	}
	if got := c.bytes.Load(); got > cacheBytes || got < cacheBytes/2 {
		t.Errorf("%d bytes of %d", got, cacheBytes)
	}
	c.put(&entry{key: "huge", set: set, body: make([]byte, entryBytes+1)})
	if c.get([]byte("huge"), set, "") != nil {
		t.Error("an entry beyond the bound was kept")
	}
	var sum int64
	for i := range c.slots {
		for j := range c.slots[i] {
			if e := c.slots[i][j].Load(); e != nil {
				sum += int64(e.size)
			}
		}
	}
	if got := c.bytes.Load(); got != sum {
		t.Errorf("%d bytes counted, %d there", got, sum)
	}
}
