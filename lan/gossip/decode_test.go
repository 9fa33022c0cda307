package gossip

import (
	"bytes"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func encodeTags(t testing.TB, tags map[string]string) []byte {
	t.Helper()
	buf := bytes.NewBuffer([]byte{tagMagic})
	if err := codec.NewEncoder(buf, &codec.MsgpackHandle{}).Encode(tags); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestDecodeTags(t *testing.T) {
	want := map[string]string{"dc": "dc1", "id": "x", "role": "consul", "empty": ""}
	if got, err := decodeTags(encodeTags(t, want)); err != nil || !maps.Equal(got, want) {
		t.Errorf("tags = %v, %v, want %v", got, err, want)
	}
	if got, err := decodeTags([]byte("consul")); err != nil || got["role"] != "consul" {
		t.Errorf("old form = %v, %v, want a role", got, err)
	}
}

func FuzzDecodeTags(f *testing.F) {
	f.Add(encodeTags(f, map[string]string{"dc": "dc1", "role": "node"}))
	f.Add([]byte{tagMagic, 0xdf, 0xff, 0xff, 0xff, 0xff}) // a map of 4 billion
	f.Add([]byte{tagMagic, 0x81, 0xdb, 0xff, 0xff, 0xff, 0xff, 'x'})
	f.Add([]byte("role"))
	f.Fuzz(func(t *testing.T, meta []byte) {
		tags, err := decodeTags(meta)
		if err != nil {
			return
		}
		n := 0
		for k, v := range tags {
			n += len(k) + len(v)
		}
		if n > len(meta)+len("role") {
			t.Errorf("%d bytes of tags out of %d bytes", n, len(meta))
		}
	})
}

func FuzzParseKeyring(f *testing.F) {
	f.Add([]byte(`["MDEyMzQ1Njc4OWFiY2RlZg=="]`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ring, err := parseKeyring("file", b)
		if err == nil && memberlist.ValidateKey(ring.GetPrimaryKey()) != nil {
			t.Errorf("%q gave a keyring with an invalid key", b)
		}
	})
}

func TestSplitPort(t *testing.T) {
	for _, tt := range []struct {
		in, host string
		port     uint16
	}{
		{"10.0.0.1", "10.0.0.1", 8301},
		{"10.0.0.1:7", "10.0.0.1", 7},
		{"fe80::1", "fe80::1", 8301},
		{"[fe80::1]", "fe80::1", 8301},
		{"[fe80::1]:7", "fe80::1", 7},
		{"host", "host", 8301},
		{"host.example.com:7", "host.example.com", 7},
		{"", "", 0}, {":7", "", 0}, {"host:0", "", 0}, {"host:port", "", 0}, {"host:70000", "", 0}, {"a:b:c", "", 0},
	} {
		host, port, err := splitPort(tt.in, 8301)
		if (err != nil) != (tt.port == 0) || err == nil && (host != tt.host || port != tt.port) {
			t.Errorf("splitPort(%q) = %q, %d, %v, want %q, %d", tt.in, host, port, err, tt.host, tt.port)
		}
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"n1": true, "host.example.com.dc1": true, "büro": true, strings.Repeat("x", 128): true,
		"": false, "a b": false, "a/b": false, "a\n": false, "\xff": false, "a\x1b[0m": false, strings.Repeat("x", 129): false,
	} {
		if got := validName(name); got != want {
			t.Errorf("validName(%q) = %v, want %v", name, got, want)
		}
		if want && !utf8.ValidString(name) {
			t.Errorf("%q is not UTF-8", name)
		}
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg, "lan", &Pool{})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 || len(families) < 6 {
		t.Errorf("%d families: %v, %v", len(families), problems, err)
	}
}

// BenchmarkAdmit is paid for each message that says a member is alive.
func BenchmarkAdmit(b *testing.B) {
	p := &Pool{cfg: Config{Datacenter: "dc1"}}
	n := &memberlist.Node{
		Name: "n1", Addr: netip.MustParseAddr("10.0.0.1").AsSlice(), Port: 8301,
		Meta: encodeTags(b, map[string]string{"dc": "dc1", "id": "5b7c9a1e-0000-0000-0000-000000000000", "role": "node", "build": "1.0.0", "vsn": "2"}),
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := (delegate{p}).NotifyAlive(n); err != nil {
			b.Fatal(err)
		}
	}
}
