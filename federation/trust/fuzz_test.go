package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"reflect"
	"testing"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

func newEmptyState() *state.Store { return state.New() }

func noApply(context.Context, store.Command) (store.Result, error) {
	return store.Result{}, store.ErrNoLeader
}

var noCall = rpc.DoerFunc(func(context.Context, *rpc.Request) (*rpc.Response, error) { return nil, store.ErrNoLeader })

func noDial(context.Context, string) (EnrollConn, error) { return nil, store.ErrNoPath }

// body is any of the messages.
type body interface {
	append([]byte) []byte
	decode([]byte) error
}

// full are all messages, each with all fields set.
func full() []body {
	f := facts{datacenter: "dc1", node: "n1", clusterID: "c", configured: "dc2", primary: "dc3", root: []byte("r"), others: 4}
	g := grant{
		federationID: "f", primary: "dc1", roots: [][]byte{{1}, {2}}, intermediate: []byte{3}, datacenters: []store.TrustDatacenter{{Name: "dc1", ClusterID: "c", KeyHash: "k"}},
		crosses: [][]byte{{4}}, revoked: []store.TrustRevocation{{Node: "n2", Datacenter: "dc2"}}, revision: 5, pruned: 6, promotion: &store.Promotion{Term: 2},
	}
	return []body{
		&hello{mode: modeKey, proof: []byte("p"), facts: f, csr: []byte("c"), unproven: true, token: "t"},
		&reply{outcome: outcomeGranted, mode: modeKey, proof: []byte("p"), facts: f, csr: []byte("c"), grant: &g, kind: store.KindConflict, text: "no"},
		&signServerRequest{csr: []byte("c"), node: "n", root: "r"},
		&signServerReply{leaf: []byte("l"), intermediate: []byte("i")},
		&signIntermediateRequest{csr: []byte("c"), subject: f, renewal: true, dialed: true, token: "t"},
		&signIntermediateReply{outcome: outcomeGranted, grant: g},
		&joinRequest{address: "a", adopt: &g, index: 7, token: "t"},
		&joinReply{root: "r", address: "a", notHere: true},
		&confirmRequest{datacenter: "dc1", root: "r"},
		&evictRequest{node: "n", datacenter: "dc1", undo: true, forget: true},
		&rotateRequest{what: "root"},
		&holderRequest{keyHash: "k"},
		&tokenRequest{datacenter: "dc1", seconds: 60, addresses: []string{"a:1", "b:2"}},
		&promoteRequest{force: true},
		&followRequest{datacenter: "dc1"},
		&pullRequest{datacenter: "dc1", term: 2, primary: "dc2"},
	}
}

// messages are the same, empty.
func messages() []body {
	all := full()
	for i, m := range all {
		all[i] = reflect.New(reflect.TypeOf(m).Elem()).Interface().(body)
	}
	return all
}

// onTheWire is what they are encoded to: other versions read it.
var onTheWire = []string{
	"080110011a0170221b0a0364633112026e311a016322036463322a0364633332017238042a016330013a0174",
	"0801100318012201702a1b0a0364633112026e311a016322036463322a0364633332017238043201633a340a016612036463311a01011a01022201032a0b0a036463311201631a016b3201043a090a026e3212036463324005480652020802400b4a026e6f",
	"08011201631a016e220172",
	"080112016c1a0169",
	"08011201631a1b0a0364633112026e311a016322036463322a03646333320172380420012801320174",
	"080110031a340a016612036463311a01011a01022201032a0b0a036463311201631a016b3201043a090a026e3212036463324005480652020802",
	"08011201611a340a016612036463311a01011a01022201032a0b0a036463311201631a016b3201043a090a026e321203646332400548065202080220072a0174",
	"08011201721a01612001",
	"080112036463311a0172",
	"080112016e1a0364633120012801",
	"08011204726f6f74",
	"080112016b",
	"08011203646331183c2203613a312203623a32",
	"08011001",
	"08011203646331",
	"0801120364633118022203646332",
}

func TestMessages(t *testing.T) {
	for i, m := range full() {
		b := m.append(nil)
		if got := hex.EncodeToString(b); got != onTheWire[i] {
			t.Errorf("%T is encoded to\n%s, want\n%s", m, got, onTheWire[i])
		}
		got := messages()[i]
		if err := got.decode(b); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: decoded to %+v, %v", m, got, err)
			continue
		}
		// A newer writer's fields are skipped; a newer version is refused.
		if err := messages()[i].decode(append(bytes.Clone(b), 0xfa, 0x01, 1, 'x')); err != nil {
			t.Errorf("%T with a field more: %v", m, err)
		}
		if err := messages()[i].decode([]byte{8, 2}); err == nil {
			t.Errorf("%T of version 2 accepted", m)
		}
		if err := messages()[i].decode(b[2:]); err == nil {
			t.Errorf("%T without a version accepted", m)
		}
		for n := range b {
			_ = messages()[i].decode(b[:n]) // an error or not, but no panic
		}
	}
}

func FuzzMessages(f *testing.F) {
	for i, m := range full() {
		f.Add(uint8(i), m.append(nil))
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		i := int(kind) % len(messages())
		m := messages()[i]
		if m.decode(b) != nil {
			return
		}
		once := m.append(nil)
		again := messages()[i]
		if err := again.decode(once); err != nil {
			t.Fatalf("%T: own encoding refused: %v", m, err)
		}
		if twice := again.append(nil); !bytes.Equal(once, twice) {
			t.Fatalf("%T: %x became %x", m, once, twice)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 8, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readFrame(bytes.NewReader(b), maxHello)
		if err == nil && (len(m) > maxHello || len(m) > len(b)-4) {
			t.Fatalf("%d bytes out of %d", len(m), len(b))
		}
	})
}

func FuzzCSR(f *testing.F) {
	key, _, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	csr, err := newCSR(key, "n1", "dc1", "consul", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readCSR(b, "dc1")
		if err == nil && (r.pub == nil || r.domain == "") {
			t.Fatalf("accepted without key or domain: %+v", r)
		}
	})
}

func BenchmarkProof(b *testing.B) {
	key, payload, exp := make([]byte, 32), make([]byte, 1200), make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		prove(key, joinerLabel, "n1.dc1", "n1.dc2", payload, exp)
	}
}

// BenchmarkHandshake is a full RPC handshake between two datacenters, both
// sides; BenchmarkVerify the check of a peer's chain alone.
func BenchmarkHandshake(b *testing.B) {
	client, server := pair(b)
	conf, err := client.ClientTLS(RPCALPN, "s1.dc1")
	if err != nil {
		b.Fatal(err)
	}
	accept, err := server.ServerTLS(RPCALPN)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, cerr, serr := handshake(conf, accept); cerr != nil || serr != nil {
			b.Fatal(cerr, serr)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	client, server := pair(b)
	c := client.view.Load().creds
	chain := []*x509.Certificate{c.leaf, c.intermediate}
	pool := server.view.Load().roots.pool
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifyChain(chain, pool, x509.ExtKeyUsageClientAuth, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJoin is a whole enrolment of a new datacenter, both sides.
func BenchmarkJoin(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		pair(b)
	}
}

func pair(b *testing.B) (client, server *server) {
	b.Helper()
	w := newWorld(b)
	w.add("dc1", 1, nil)
	d2 := w.add("dc2", 1, nil)
	if err := d2.lead().Join(b.Context(), "s1.dc1"); err != nil {
		b.Fatal(err)
	}
	return d2.lead(), w.dcs["dc1"].lead()
}
