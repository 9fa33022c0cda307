package transport

import (
	"bytes"
	"strings"
	"testing"
)

func TestTunnelMessages(t *testing.T) {
	for _, want := range []tunnelRequest{{target: "a.east"}, {"a.b.east", "c.west", 1, true}} {
		b, err := readMessage(bytes.NewReader(want.append(nil)))
		if err != nil {
			t.Fatal(err)
		}
		// A later version's field is skipped.
		if got, err := decodeTunnelRequest(appendField(b, 99, "of later")); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	want := tunnelReply{RelayLimit, strings.Repeat("x", 2*maxCloseText)}
	b, err := readMessage(bytes.NewReader(want.append(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeTunnelReply(b); err != nil || got.reason != want.reason || got.text != want.text[:maxCloseText] {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "\x00\x00", "\xff\xff\x01", "\x00\x01\x02", "\x00\x05\x01\x01"} {
		if _, err := readMessage(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func FuzzTunnelMessages(f *testing.F) {
	f.Add((&tunnelRequest{"a.east", "b.west", 1, true}).append(nil))
	f.Add((&tunnelReply{RelayLoop, "no"}).append(nil))
	f.Add([]byte("\x00\x04\x01\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := readMessage(bytes.NewReader(in))
		if err != nil {
			return
		}
		if r, err := decodeTunnelRequest(b); err == nil && len(b) < maxRelayMessage-16 {
			again, err := readMessage(bytes.NewReader(r.append(nil)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := decodeTunnelRequest(again); err != nil || got != r {
				t.Errorf("%+v becomes %+v, %v", r, got, err)
			}
		}
		if r, err := decodeTunnelReply(b); err == nil {
			again, err := readMessage(bytes.NewReader(r.append(nil)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := decodeTunnelReply(again); err != nil || got.reason != r.reason {
				t.Errorf("%+v becomes %+v, %v", r, got, err)
			}
		}
	})
}
