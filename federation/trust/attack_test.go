package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// tap sees and may change the frames that the dialing side writes and reads.
type tap struct {
	EnrollConn
	write func([]byte) []byte
	read  func([]byte) []byte
	in    bytes.Buffer
}

func (c *tap) Write(b []byte) (int, error) {
	if c.write != nil {
		if _, err := c.EnrollConn.Write(c.write(bytes.Clone(b))); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return c.EnrollConn.Write(b)
}

func (c *tap) Read(b []byte) (int, error) {
	if c.read == nil {
		return c.EnrollConn.Read(b)
	}
	if c.in.Len() == 0 {
		m, err := readFrame(c.EnrollConn, maxReply)
		if err != nil {
			return 0, err
		}
		m = c.read(m)
		c.in.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m))))
		c.in.Write(m)
	}
	return c.in.Read(b)
}

// TestReplayedProof records a good hello and sends it on another connection.
func TestReplayedProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1, d2 := w.add("dc1", 1, nil), w.add("dc2", 1, nil)
		var recorded []byte
		w.mangle = func(c EnrollConn) EnrollConn {
			return &tap{EnrollConn: c, write: func(b []byte) []byte { recorded = b; return b[:4] }}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d2.lead().Join(ctx, "s1.dc1"); err == nil {
			t.Fatal("join succeeded without its hello")
		}
		before := d1.trust()
		w.mangle = func(c EnrollConn) EnrollConn {
			return &tap{EnrollConn: c, write: func([]byte) []byte { return recorded }}
		}
		err := d2.lead().Join(t.Context(), "s1.dc1")
		if store.KindOf(err) != store.KindPermissionDenied || !strings.Contains(err.Error(), "gossip key") {
			t.Errorf("replayed hello: %v", err)
		}
		if d1.trust() != before {
			t.Error("record changed")
		}
	})
}

// TestTamperedHello changes one byte anywhere in a hello. Its length varies a
// little: signatures are DER.
func TestTamperedHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1, d2 := w.add("dc1", 1, nil), w.add("dc2", 1, nil)
		before := d1.trust()
		size := 0
		for at := 4; size == 0 || at < size; at += 7 {
			time.Sleep(time.Second) // stay below the rate limit
			w.mangle = func(c EnrollConn) EnrollConn {
				return &tap{EnrollConn: c, write: func(b []byte) []byte { size = len(b); b[min(at, len(b)-1)] ^= 1; return b }}
			}
			if err := d2.lead().Join(t.Context(), "s1.dc1"); err == nil {
				t.Errorf("byte %d changed: accepted", at)
			}
		}
		if d1.trust() != before {
			t.Error("record changed")
		}
	})
}

// TestImpostorAcceptor answers with what an attacker could make up.
func TestImpostorAcceptor(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*reply)
		want string
	}{
		{"proof missing", func(r *reply) { r.proof = nil }, "did not prove"},
		{"proof reflected", func(r *reply) { r.mode = modeNone }, "offered no proof"},
		{"another primary", func(r *reply) { r.grant.primary = "dc9" }, "did not prove"},
		{"another root", func(r *reply) { r.grant.roots[0], _, _ = newRoot(time.Now(), "evil.consul") }, "did not prove"},
		{"another name", func(r *reply) { r.facts.datacenter = "dc9" }, "did not prove"},
		{"granted becomes same", func(r *reply) { r.outcome = outcomeSame }, "did not prove"},
		{"granted becomes reverse", func(r *reply) { r.outcome = outcomeReverse }, "did not prove"},
		{"unknown version", nil, "speaks version 9 of enrolment, this server speaks 1"},
		{"refusal with control characters", func(r *reply) { *r = reply{outcome: outcomeRefused, text: "no\x1b[31m\n\x00"} }, "no [31m"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.add("dc1", 1, nil)
				d2 := w.add("dc2", 1, nil)
				before := d2.trust()
				w.mangle = func(c EnrollConn) EnrollConn {
					return &tap{EnrollConn: c, read: func(b []byte) []byte {
						r := new(reply)
						if err := r.decode(b); err != nil {
							t.Error(err)
						}
						if tc.edit == nil {
							b[1] = 9 // field 1 comes first
							return b
						}
						tc.edit(r)
						return r.append(nil)
					}}
				}
				err := d2.lead().Join(t.Context(), "s1.dc1")
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				if d2.trust() != before {
					t.Error("the impostor changed the record")
				}
			})
		})
	}
}

// TestRelayedChannel puts a man in the middle who ends TLS on both sides and
// copies what is said inside.
func TestRelayedChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1, d2 := w.add("dc1", 1, nil), w.add("dc2", 1, nil)
		one, two := d1.trust(), d2.trust()
		s2 := d2.lead()
		s2.cfg.Dial = func(ctx context.Context, _ string) (EnrollConn, error) {
			real, err := w.dial(ctx, s2, "s1.dc1")
			if err != nil {
				return nil, err
			}
			a, b := newPipe(0, w.source)
			der, key, err := selfSigned(time.Now(), "s1", "dc1")
			if err != nil {
				return nil, err
			}
			w.wg.Go(func() {
				m := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13})
				if m.Handshake() != nil {
					return
				}
				w.wg.Go(func() { _, _ = io.Copy(real, m); real.Close() })
				_, _ = io.Copy(m, real)
				b.Close()
			})
			conf, err := s2.ClientTLS(EnrollALPN, "")
			if err != nil {
				return nil, err
			}
			conf.NextProtos = nil
			c := tls.Client(a, conf)
			return &tlsConn{c, a}, c.HandshakeContext(ctx)
		}
		err := s2.Join(t.Context(), "s1.dc1")
		if store.KindOf(err) != store.KindPermissionDenied {
			t.Errorf("relayed enrolment: %v", err)
		}
		if d1.trust() != one || d2.trust() != two {
			t.Error("record changed")
		}
	})
}

// TestGarbage sends an acceptor what no joiner would.
func TestGarbage(t *testing.T) {
	frame := func(n uint32, b ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, n), b...) }
	for _, tc := range []struct {
		name, want string
		send       []byte
	}{
		{"nothing", "", nil},
		{"half a length", "", []byte{0, 0}},
		{"a huge length", "message of 4294967295 bytes, at most 16384 allowed", frame(1<<32 - 1)},
		{"just over", "message of 16385 bytes", frame(maxHello + 1)},
		{"empty", "speaks version 0 of enrolment", frame(0)},
		{"noise", "malformed", frame(8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{"other version", "speaks version 7 of enrolment, this server speaks 1", frame(2, 8, 7)},
		{"no datacenter", "enrolment without a datacenter name", frame(2, 8, 1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d1 := w.add("dc1", 1, nil)
				d2 := w.add("dc2", 1, nil)
				conn, err := w.dial(t.Context(), d2.lead(), "s1.dc1")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := conn.Write(tc.send); err != nil {
					t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				start := time.Now()
				r, err := readReply(conn)
				if took := time.Since(start); took > enrollTime+time.Second {
					t.Errorf("held for %v", took)
				}
				if tc.want != "" && (err != nil || !strings.Contains(r.text, tc.want)) {
					t.Errorf("got %+v, %v; want %q", r, err, tc.want)
				}
				if n := len(d1.trust().Datacenters); n != 1 {
					t.Errorf("%d datacenters known", n)
				}
			})
		})
	}
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(time.Now())
		from := func(ip string) net.Addr { return net.UDPAddrFromAddrPort(addrPort(ip)) }
		try := func(a net.Addr) bool {
			ok := l.acquire(a, time.Now())
			if ok {
				l.release()
			}
			return ok
		}
		for i := range sourceBurst {
			if !try(from("192.0.2.1:1")) {
				t.Fatalf("refused at attempt %d of a burst of %d", i, sourceBurst)
			}
		}
		if try(from("192.0.2.1:2")) {
			t.Error("no limit per source")
		}
		if !try(from("192.0.2.2:1")) {
			t.Error("one source used up what others have")
		}
		time.Sleep(time.Second)
		if !try(from("192.0.2.1:1")) {
			t.Error("refused a second later")
		}
		n := 0
		for i := range 4096 {
			if try(from(addrOfInt(i))) {
				n++
			}
		}
		if n > totalBurst {
			t.Errorf("%d accepted at once from many sources, want at most %d", n, totalBurst)
		}
		if len(l.sources) > maxSources {
			t.Errorf("remembers %d sources", len(l.sources))
		}
		time.Sleep(time.Minute)
		for i := range maxConcurrent + 1 {
			if ok := l.acquire(from(addrOfInt(i)), time.Now()); ok != (i < maxConcurrent) {
				t.Fatalf("concurrent attempt %d: %v", i, ok)
			}
		}
		// Addresses of one IPv6 network are one source.
		if sourceOf(from("[2001:db8::1]:1")) != sourceOf(from("[2001:db8::2]:9")) {
			t.Error("two addresses of a /64 are two sources")
		}
	})
}

func addrOfInt(i int) string {
	return net.JoinHostPort(net.IPv4(10, 0, byte(i>>8), byte(i)).String(), "1")
}

func TestFloodIsRefusedInWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.add("dc1", 1, nil)
		d2 := w.add("dc2", 1, func(c *Config) { c.GossipKey = func() []byte { return []byte("xxxxxxxxxxxxxxxx") } })
		var err error
		for range sourceBurst + 2 {
			err = d2.lead().Join(t.Context(), "s1.dc1")
		}
		if store.KindOf(err) != store.KindRateLimited {
			t.Errorf("got %v", err)
		}
		synctest.Wait() // it is logged after the answer
		if n := strings.Count(w.dcs["dc1"].lead().logs.String(), "enrolment refused"); n != 1 {
			t.Errorf("%d log lines for a flood within a moment, want 1", n)
		}
	})
}

// TestForeignRequests asks a leader for certificates nobody may have.
func TestForeignRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1 := w.add("dc1", 2, nil)
		w.add("dc2", 1, nil)
		w.add("dc3", 1, nil)
		for _, n := range []string{"dc2", "dc3"} {
			if err := w.dcs[n].lead().Join(t.Context(), "s1.dc1"); err != nil {
				t.Fatal(err)
			}
		}
		l, s3 := d1.lead(), w.dcs["dc3"].lead()
		key, _, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		csr := func(node, dc, domain string) []byte {
			b, err := newCSR(key, node, dc, domain, nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		server := func(origin rpc.Origin, csr []byte) error {
			m := signServerRequest{csr: csr}
			_, err := l.SignServer(t.Context(), &rpc.Request{Origin: origin, Peer: "s1.dc3", Body: m.append(nil)})
			return err
		}
		intermediate := func(peer string, m signIntermediateRequest) error {
			_, err := l.SignIntermediate(t.Context(), &rpc.Request{Origin: rpc.FromWAN, Peer: peer, Body: m.append(nil)})
			return err
		}
		stranger := s3.facts(w.dcs["dc3"].trust(), "dc1")
		stranger.root = d1.trust().Roots[0].DER
		stranger.root, _, _ = newRoot(time.Now(), "other.consul")
		small := mustCSRSmallKey(t)
		for _, tc := range []struct {
			name, want string
			err        error
		}{
			{"server of another datacenter", "is not of datacenter dc1", server(rpc.FromLAN, csr("s1", "dc2", "consul"))},
			{"server from another datacenter", "signs for its own servers only", server(rpc.FromWAN, csr("s1", "dc1", "consul"))},
			{"server nobody knows", "s9 is not known as a server of datacenter dc1", server(rpc.FromLAN, csr("s9", "dc1", "consul"))},
			{"other domain", `for domain "evil", ours is "consul"`, server(rpc.FromLAN, csr("s1", "dc1", "evil"))},
			{"no node", `of server ""`, server(rpc.FromLAN, csr("", "dc1", "consul"))},
			{"not a request", "certificate request", server(rpc.FromLAN, []byte("hello"))},
			{"weak key", "key is not ECDSA P-256", server(rpc.FromLAN, small)},
			{"too long", "over 4096 bytes", server(rpc.FromLAN, make([]byte, maxCSR+1))},
			{"renewal for another datacenter", "datacenter dc2 cannot renew the certificate of datacenter dc3",
				intermediate("s1.dc2", signIntermediateRequest{csr: csr("", "dc3", "consul"), subject: stranger, renewal: true})},
			{"vouching for a member with a key of one's own", "datacenter dc3 is a member of this federation with another key",
				intermediate("s1.dc2", signIntermediateRequest{csr: csr("", "dc3", "consul"), subject: stranger})},
			{"wrong name in the request", "is not of datacenter dc3",
				intermediate("s1.dc3", signIntermediateRequest{csr: csr("", "dc2", "consul"), subject: stranger, renewal: true})},
			{"join from outside", "another datacenter cannot make datacenter dc1 join", func() error {
				_, err := l.JoinHandler(t.Context(), &rpc.Request{Origin: rpc.FromWAN, Peer: "s1.dc2", Body: (&joinRequest{address: "s1.dc3"}).append(nil)})
				return err
			}()},
			{"not the leader", "No cluster leader", func() error {
				_, err := d1.servers[1].SignServer(t.Context(), &rpc.Request{Origin: rpc.FromLAN, Body: (&signServerRequest{csr: csr("s1", "dc1", "consul")}).append(nil)})
				return err
			}()},
		} {
			if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q", tc.name, tc.err, tc.want)
			}
		}
		if err := intermediate("s1.dc3", signIntermediateRequest{csr: csr("", "dc3", "consul"), subject: stranger, renewal: true}); err != nil {
			t.Errorf("renewal by the datacenter itself: %v", err)
		}
	})
}

// TestBadGrant offers a joiner grants that are not for it.
func TestBadGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1, d2 := w.add("dc1", 1, nil), w.add("dc2", 1, nil)
		rec, s := d2.trust(), d2.lead()
		root, err := parseIssuer(d1.trust().Roots[0].DER, d1.trust().RootKey)
		if err != nil {
			t.Fatal(err)
		}
		own, err := parseKey(rec.IntermediateKey)
		if err != nil {
			t.Fatal(err)
		}
		other, _, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		sign := func(key *ecdsa.PrivateKey, dc string) []byte {
			der, err := signIntermediate(time.Now(), root, key.Public(), dc, "consul", nil)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		fed := d1.trust().FederationID
		for _, tc := range []struct {
			name, want string
			g          grant
		}{
			{"good", "", grant{federationID: fed, primary: "dc1", roots: [][]byte{root.cert.Raw}, intermediate: sign(own, "dc2")}},
			{"empty", "not complete", grant{}},
			{"other datacenter", "is for datacenter dc3", grant{federationID: fed, primary: "dc1", roots: [][]byte{root.cert.Raw}, intermediate: sign(own, "dc3")}},
			{"other key", "do not belong together", grant{federationID: fed, primary: "dc1", roots: [][]byte{root.cert.Raw}, intermediate: sign(other, "dc2")}},
			{"other root", "intermediate:", grant{federationID: rec.FederationID, primary: "dc1", roots: [][]byte{rec.Roots[0].DER}, intermediate: sign(own, "dc2")}},
			{"a root that is none", "is not a valid root", grant{federationID: fed, primary: "dc1", roots: [][]byte{sign(own, "dc2")}, intermediate: sign(own, "dc2")}},
			{"other federation", "is not of federation x", grant{federationID: "x", primary: "dc1", roots: [][]byte{root.cert.Raw}, intermediate: sign(own, "dc2")}},
			{"our name is another's", `"dc2" is taken`, grant{federationID: fed, primary: "dc1", roots: [][]byte{root.cert.Raw}, intermediate: sign(own, "dc2"), datacenters: []store.TrustDatacenter{{Name: "dc2", ClusterID: "z"}}}},
			{"no primary", "datacenter name", grant{federationID: fed, primary: "", roots: [][]byte{root.cert.Raw}, intermediate: sign(own, "dc2")}},
		} {
			err := s.take(rec.Clone(), &tc.g)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
			}
		}
		if _, err := s.adopt(t.Context(), &grant{federationID: fed, primary: "dc1", roots: [][]byte{root.cert.Raw}, intermediate: sign(own, "dc2")}, rec.ModifyIndex-1); err != errChanged {
			t.Errorf("adopt on an older record: %v", err)
		}
	})
}

// TestSecretsStaySecret looks for keys in logs and errors of a busy life.
func TestSecretsStaySecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.add("dc1", 2, nil)
		d2 := w.add("dc2", 2, nil)
		if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		for _, d := range w.dcs {
			for _, s := range d.servers {
				log := s.logs.String()
				for _, secret := range [][]byte{d.trust().IntermediateKey, d.trust().RootKey, s.view.Load().keyDER, []byte("0123456789abcdef")} {
					if len(secret) > 0 && (strings.Contains(log, string(secret)) || strings.Contains(log, encode(secret))) {
						t.Errorf("%s logs a key", s.self())
					}
				}
			}
		}
	})
}
