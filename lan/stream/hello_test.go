package stream

import (
	"bytes"
	"testing"
)

func FuzzHello(f *testing.F) {
	h := hello{cluster: "c", recoveries: 3, from: "a", to: "b"}
	f.Add(h.append(nil))
	f.Add([]byte{0x0a, 0xff})
	f.Add([]byte{0x10, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, again hello
		if h.decode(b) != nil {
			return
		}
		if err := again.decode(h.append(nil)); err != nil || again != h {
			t.Errorf("%+v is read back as %+v, %v", h, again, err)
		}
		var framed bytes.Buffer
		if err := writeFramed(&framed, h.append); err == nil {
			if got, err := readFramed(&framed); err != nil || !bytes.Equal(got, h.append(nil)) {
				t.Errorf("framed and read back: %x, %v", got, err)
			}
		}
	})
}
