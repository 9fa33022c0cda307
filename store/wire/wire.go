// Package wire appends and reads tagged fields in the Protocol Buffers wire
// format (protobuf.dev/programming-guides/encoding), by hand and without
// reflection: the format of our commands, snapshots and RPC envelopes.
//
// A reader skips fields it does not know, so newer writers may add some; zero
// values are left out. Nothing here allocates by a declared length: bytes are
// sub-slices of what was received. Functions are safe for concurrent use; a
// Decoder belongs to one goroutine.
package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrTruncated is wrapped by every decoding error.
var ErrTruncated = errors.New("malformed record")

// Uint appends field = v, unless v is 0.
func Uint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, protowire.Number(field), protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

// Int appends a signed number, zig-zag encoded, unless it is 0.
func Int(b []byte, field int, v int64) []byte {
	return Uint(b, field, protowire.EncodeZigZag(v))
}

// Bool appends field = 1 if v.
func Bool(b []byte, field int, v bool) []byte {
	if !v {
		return b
	}
	return Uint(b, field, 1)
}

// String appends field = s, unless s is empty.
func String(b []byte, field int, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, protowire.Number(field), protowire.BytesType)
	return protowire.AppendString(b, s)
}

// Bytes appends field = v, unless v is empty.
func Bytes(b []byte, field int, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return Element(b, field, v)
}

// Element appends field = v even if v is empty: for repeated fields.
func Element(b []byte, field int, v []byte) []byte {
	b = protowire.AppendTag(b, protowire.Number(field), protowire.BytesType)
	return protowire.AppendBytes(b, v)
}

// StringElement appends field = s even if s is empty: for repeated fields.
func StringElement(b []byte, field int, s string) []byte {
	b = protowire.AppendTag(b, protowire.Number(field), protowire.BytesType)
	return protowire.AppendString(b, s)
}

// Message appends field = what fill appends, even if that is nothing.
func Message(b []byte, field int, fill func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, protowire.Number(field), protowire.BytesType)
	at := len(b)
	b = fill(b)
	n := len(b) - at
	var head [10]byte
	h := protowire.AppendVarint(head[:0], uint64(n))
	b = append(b, h...) // grow by the length's size, then move the message behind it
	copy(b[at+len(h):], b[at:at+n])
	copy(b[at:], h)
	return b
}

// StringMap appends each pair as a message {1: key, 2: value}. Order is the
// map's: never use it where bytes are compared.
func StringMap(b []byte, field int, m map[string]string) []byte {
	for k, v := range m {
		b = Message(b, field, func(b []byte) []byte { return String(String(b, 1, k), 2, v) })
	}
	return b
}

// Decoder walks the fields of one message:
//
//	d := wire.NewDecoder(b)
//	for d.Next() {
//		switch d.Field {
//		case 1:
//			x.Name = d.String()
//		}
//	}
//	return d.Err()
//
// A value not taken is skipped. After an error Next returns false and every
// getter a zero value.
type Decoder struct {
	Field int

	rest  []byte
	typ   protowire.Type
	num   uint64
	bytes []byte
	err   error
}

// NewDecoder reads b, which must stay unchanged while values taken from it live.
func NewDecoder(b []byte) Decoder { return Decoder{rest: b} }

// Next moves to the next field.
func (d *Decoder) Next() bool {
	if d.err != nil || len(d.rest) == 0 {
		return false
	}
	num, typ, n := protowire.ConsumeTag(d.rest)
	if n < 0 {
		return d.fail(protowire.ParseError(n))
	}
	d.rest = d.rest[n:]
	d.Field, d.typ, d.num, d.bytes = int(num), typ, 0, nil
	switch typ {
	case protowire.VarintType:
		d.num, n = protowire.ConsumeVarint(d.rest)
	case protowire.BytesType:
		d.bytes, n = protowire.ConsumeBytes(d.rest)
	default:
		n = protowire.ConsumeFieldValue(num, typ, d.rest)
	}
	if n < 0 {
		return d.fail(protowire.ParseError(n))
	}
	d.rest = d.rest[n:]
	return true
}

func (d *Decoder) fail(err error) bool {
	d.err = fmt.Errorf("%w: field %d: %v", ErrTruncated, d.Field, err)
	d.rest = nil
	return false
}

// Err returns the first error met.
func (d *Decoder) Err() error { return d.err }

// Uint returns the field's number; 0 if it is of another type.
func (d *Decoder) Uint() uint64 { return d.num }

// Int returns the field's zig-zag number.
func (d *Decoder) Int() int64 { return protowire.DecodeZigZag(d.num) }

// Bool returns whether the field's number is not 0.
func (d *Decoder) Bool() bool { return d.num != 0 }

// String returns a copy of the field's bytes.
func (d *Decoder) String() string { return string(d.bytes) }

// Bytes returns the field's bytes without a copy: a sub-slice of the input.
func (d *Decoder) Bytes() []byte { return d.bytes }

// StringPair adds one element written by StringMap to *m.
func (d *Decoder) StringPair(m *map[string]string) {
	var k, v string
	p := NewDecoder(d.bytes)
	for p.Next() {
		switch p.Field {
		case 1:
			k = p.String()
		case 2:
			v = p.String()
		}
	}
	if p.err != nil {
		d.fail(p.err)
		return
	}
	if *m == nil {
		*m = make(map[string]string)
	}
	(*m)[k] = v
}
