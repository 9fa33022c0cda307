package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"landbridge/store/wire"
)

// answer is what a server says of a secret.
type answer struct {
	accessor string
	expires  time.Time
	digest   string // of the policies
	policies []policy
}

// digest names a list of policies: equal digests, equal rules.
func digest(list []policy) string {
	h := sha256.New()
	for _, p := range list {
		h.Write([]byte(p.key + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (a *answer) appendWire(b []byte) []byte {
	b = wire.String(b, 1, a.accessor)
	if !a.expires.IsZero() {
		b = wire.Uint(b, 2, uint64(a.expires.UnixNano()))
	}
	b = wire.String(b, 3, a.digest)
	for _, p := range a.policies {
		b = wire.Message(b, 4, func(b []byte) []byte {
			return wire.String(wire.String(b, 1, p.key), 2, p.text)
		})
	}
	return b
}

func (a *answer) decodeWire(b []byte) error {
	*a = answer{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			a.accessor = d.String()
		case 2:
			a.expires = time.Unix(0, int64(d.Uint()))
		case 3:
			a.digest = d.String()
		case 4:
			var p policy
			m := wire.NewDecoder(d.Bytes())
			for m.Next() {
				switch m.Field {
				case 1:
					p.key = m.String()
				case 2:
					p.text = m.String()
				}
			}
			if err := m.Err(); err != nil {
				return err
			}
			a.policies = append(a.policies, p)
		}
	}
	return d.Err()
}
