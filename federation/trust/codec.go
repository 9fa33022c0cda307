package trust

import (
	"bytes"
	"fmt"

	"landbridge/store"
	"landbridge/store/wire"
)

// enrollVersion is the version of all messages of this package. A reader refuses
// others; within a version fields may be added, and unknown ones are skipped.
const enrollVersion = 1

func errVersion(v uint64) error {
	return store.Errorf(store.KindInvalid, "the other side speaks version %d of enrolment, this server speaks %d", v, enrollVersion)
}

// message is what names its fields once, for writing and for reading.
type message interface{ fields(c *codec) }

// codec runs over the fields of a message and appends them, or takes over the one
// field of a received message that in is at.
type codec struct {
	out       []byte
	in        *wire.Decoder // nil: appends
	versioned bool          // the version was read
	err       error         // of the field
}

// encodeMessage appends a message, or a part of one.
func encodeMessage(b []byte, m message) []byte {
	c := codec{out: b}
	m.fields(&c)
	return c.out
}

// decodePart reads a part of a message, which has no version of its own.
func decodePart(b []byte, m message) error {
	_, err := read(b, m)
	return err
}

// decodeMessage reads a message.
func decodeMessage(b []byte, m message) error {
	versioned, err := read(b, m)
	if err == nil && !versioned {
		return errVersion(0)
	}
	return err
}

func read(b []byte, m message) (versioned bool, err error) {
	d := wire.NewDecoder(b)
	c := codec{in: &d}
	for d.Next() {
		if m.fields(&c); c.err != nil {
			return false, c.err
		}
	}
	return c.versioned, d.Err()
}

// at is whether a received message is at field n.
func (c *codec) at(n int) bool { return c.in != nil && c.in.Field == n }

// version is field 1 of every message.
func (c *codec) version() {
	switch {
	case c.in == nil:
		c.out = wire.Uint(c.out, 1, enrollVersion)
	case c.at(1):
		if v := c.in.Uint(); v != enrollVersion {
			c.err = errVersion(v)
		}
		c.versioned = true
	}
}

func (c *codec) text(n int, s *string) {
	switch {
	case c.in == nil:
		c.out = wire.String(c.out, n, *s)
	case c.at(n):
		*s = c.in.String()
	}
}

func (c *codec) bytes(n int, b *[]byte) {
	switch {
	case c.in == nil:
		c.out = wire.Bytes(c.out, n, *b)
	case c.at(n):
		*b = bytes.Clone(c.in.Bytes())
	}
}

func (c *codec) flag(n int, v *bool) {
	switch {
	case c.in == nil:
		c.out = wire.Bool(c.out, n, *v)
	case c.at(n):
		*v = c.in.Bool()
	}
}

func integer[T ~uint8 | ~uint64](c *codec, n int, v *T) {
	switch {
	case c.in == nil:
		c.out = wire.Uint(c.out, n, uint64(*v))
	case c.at(n):
		*v = T(c.in.Uint())
	}
}

// record is a message within, or a record of the store.
type record interface {
	AppendWire([]byte) []byte
	DecodeWire([]byte) error
}

// part is a record that is there or, left out, its zero value.
func (c *codec) part(n int, there bool, r record) {
	switch {
	case c.in == nil && there:
		c.out = wire.Message(c.out, n, r.AppendWire)
	case c.at(n):
		c.err = r.DecodeWire(c.in.Bytes())
	}
}

// option is a record that may be nil.
func option[T any, P interface {
	*T
	record
}](c *codec, n int, r *P) {
	if c.at(n) {
		*r = new(T)
	}
	c.part(n, *r != nil, *r)
}

// records are at most so many, if that is not 0.
func records[T any, P interface {
	*T
	record
}](c *codec, n int, all *[]T, most int, what string) {
	if c.at(n) && c.roomFor(len(*all), most, what) {
		var r T
		c.err = P(&r).DecodeWire(c.in.Bytes())
		*all = append(*all, r)
	}
	if c.in == nil {
		for i := range *all {
			c.out = wire.Message(c.out, n, P(&(*all)[i]).AppendWire)
		}
	}
}

// list is repeated bytes or words, which may be empty.
func list[T ~string | ~[]byte](c *codec, n int, all *[]T, most int, what string) {
	if c.at(n) && c.roomFor(len(*all), most, what) {
		*all = append(*all, T(bytes.Clone(c.in.Bytes())))
	}
	if c.in == nil {
		for _, e := range *all {
			c.out = wire.Element(c.out, n, []byte(e))
		}
	}
}

func (c *codec) roomFor(have, most int, what string) bool {
	if most > 0 && have == most {
		c.err = fmt.Errorf("%w: more than %d %s", wire.ErrTruncated, most, what)
	}
	return c.err == nil
}
