package kv

import (
	"crypto/sha256"
	"slices"
	"strings"

	"landbridge/acl_replication/replica"
	"landbridge/store"
	"landbridge/store/state"
	"landbridge/store/wire"
)

// Scope is which keys of a source are meant.
type Scope struct {
	Prefix  string
	Exclude []string // prefixes of keys of the source
}

// has reports whether a key with the prefix is not left out.
func (s *Scope) has(key string) bool {
	return !slices.ContainsFunc(s.Exclude, func(x string) bool { return strings.HasPrefix(key, x) })
}

// Question is what travels to a source: a scope, and a message of package replica.
type Question struct {
	Scope
	Ask replica.Ask
}

// maxExclude bounds the prefixes of a question that came from elsewhere.
const maxExclude = 256

// AppendWire appends the question's fields.
func (q *Question) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, q.Prefix)
	for _, x := range q.Exclude {
		b = wire.String(b, 2, x)
	}
	return wire.Message(b, 3, q.Ask.AppendWire)
}

// DecodeWire replaces q by what AppendWire wrote.
func (q *Question) DecodeWire(b []byte) error {
	*q = Question{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			q.Prefix = d.String()
		case 2:
			if q.Exclude = append(q.Exclude, d.String()); len(q.Exclude) > maxExclude {
				return store.Errorf(store.KindInvalid, "more than %d excluded prefixes", maxExclude)
			}
		case 3:
			if err := q.Ask.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return d.Err()
}

// theKind is the only one there is.
const theKind replica.Kind = 1

// row is a key's content as it travels; never empty.
func row(e *store.KVEntry) []byte {
	b := wire.Uint(nil, 1, e.Flags)
	return wire.Element(b, 2, e.Value)
}

func decodeRow(b []byte) (value []byte, flags uint64, err error) {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			flags = d.Uint()
		case 2:
			value = slices.Clone(d.Bytes())
		}
	}
	return value, flags, d.Err()
}

// digest is equal for equal values and flags.
func digest(e *store.KVEntry) replica.Digest {
	h := sha256.New()
	h.Write(wire.Uint(nil, 1, e.Flags))
	h.Write(e.Value)
	return replica.Digest(h.Sum(nil))
}

// scan calls each for the keys below a prefix, which are named by the rest. has takes
// what they are called in the source.
func scan(v *state.KVView, prefix string, scope *Scope, each func(id string, d replica.Digest)) {
	v.Scan(prefix, func(e *store.KVEntry) {
		if id := e.Key[len(prefix):]; scope.has(scope.Prefix + id) {
			each(id, digest(e))
		}
	})
}
