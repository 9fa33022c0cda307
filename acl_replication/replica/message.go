package replica

import (
	"bytes"
	"encoding/binary"
	"io"

	"landbridge/store"
	"landbridge/store/wire"
)

// Messages on the wire: tagged fields, unknown ones skipped. Epoch, position and
// marks have the fields 1 to 4 in all of them.

func appendAt(b []byte, e Epoch, position uint64, marks [3]uint64) []byte {
	b = wire.String(b, 1, e.Cluster)
	b = wire.String(b, 2, e.History)
	b = wire.Uint(b, 3, position)
	if marks != [3]uint64{} {
		b = wire.Message(b, 4, func(b []byte) []byte {
			for i, m := range marks {
				b = wire.Uint(b, i+1, m)
			}
			return b
		})
	}
	return b
}

func decodeAt(d *wire.Decoder, e *Epoch, position *uint64, marks *[3]uint64) error {
	switch d.Field {
	case 1:
		e.Cluster = d.String()
	case 2:
		e.History = d.String()
	case 3:
		*position = d.Uint()
	case 4:
		m := wire.NewDecoder(d.Bytes())
		for m.Next() {
			if m.Field >= 1 && m.Field <= len(marks) {
				marks[m.Field-1] = m.Uint()
			}
		}
		return m.Err()
	}
	return nil
}

func appendRow(b []byte, r *Row) []byte {
	b = wire.Uint(b, 1, uint64(r.Kind))
	b = wire.String(b, 2, r.ID)
	if r.Data != nil {
		b = wire.Element(b, 3, r.Data)
	}
	return b
}

func decodeRow(raw []byte) (r Row, err error) {
	d := wire.NewDecoder(raw)
	for d.Next() {
		switch d.Field {
		case 1:
			r.Kind = Kind(d.Uint())
		case 2:
			r.ID = d.String()
		case 3:
			r.Data = append(make([]byte, 0, len(d.Bytes())), d.Bytes()...) // never nil
		}
	}
	return r, d.Err()
}

func (r *Root) appendWire(b []byte) []byte {
	b = wire.Uint(b, 1, uint64(r.Kind))
	b = wire.Uint(b, 2, uint64(r.Bits))
	b = wire.Uint(b, 3, r.Count)
	return wire.Bytes(b, 4, r.Hash[:])
}

func (r *Root) field(d *wire.Decoder) error {
	switch d.Field {
	case 1:
		r.Kind = Kind(d.Uint())
	case 2:
		n := d.Uint()
		if n > maxBits {
			return store.Errorf(store.KindInvalid, "a tree with 1<<%d leaves", n)
		}
		r.Bits = uint8(n)
	case 3:
		r.Count = d.Uint()
	case 4:
		copy(r.Hash[:], d.Bytes())
	}
	return nil
}

// AppendWire appends the batch's fields.
func (t *Batch) AppendWire(b []byte) []byte {
	b = appendAt(b, t.Epoch, t.Position, t.Marks)
	b = wire.Bool(b, 5, t.Lost)
	b = wire.Uint(b, 6, t.Top)
	b = wire.Bool(b, 7, t.Marked)
	for i := range t.Rows {
		b = wire.Message(b, 8, func(b []byte) []byte { return appendRow(b, &t.Rows[i]) })
	}
	for i := range t.Proof {
		b = wire.Message(b, 9, t.Proof[i].appendWire)
	}
	return b
}

// DecodeWire replaces t by what AppendWire wrote.
func (t *Batch) DecodeWire(raw []byte) error {
	*t = Batch{}
	d := wire.NewDecoder(raw)
	for d.Next() {
		err := decodeAt(&d, &t.Epoch, &t.Position, &t.Marks)
		switch d.Field {
		case 5:
			t.Lost = d.Bool()
		case 6:
			t.Top = d.Uint()
		case 7:
			t.Marked = d.Bool()
		case 8:
			var r Row
			if r, err = decodeRow(d.Bytes()); err == nil {
				t.Rows = append(t.Rows, r)
			}
		case 9:
			var r Root
			if r, err = decodeRoot(d.Bytes()); err == nil {
				t.Proof = append(t.Proof, r)
			}
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

func decodeRoot(raw []byte) (r Root, err error) {
	d := wire.NewDecoder(raw)
	for d.Next() {
		if err := r.field(&d); err != nil {
			return r, err
		}
	}
	return r, d.Err()
}

// AppendWire appends the trees' fields.
func (t *Trees) AppendWire(b []byte) []byte {
	b = appendAt(b, t.Epoch, t.Position, t.Marks)
	for i := range t.Kinds {
		k := &t.Kinds[i]
		b = wire.Message(b, 5, func(b []byte) []byte {
			b = k.Root.appendWire(b)
			leaves := make([]byte, 0, len(k.Leaves)*leafSize)
			for i := range k.Leaves {
				leaves = append(leaves, k.Leaves[i][:]...)
			}
			return wire.Bytes(b, 5, leaves)
		})
	}
	return b
}

// DecodeWire replaces t by what AppendWire wrote.
func (t *Trees) DecodeWire(raw []byte) error {
	*t = Trees{}
	d := wire.NewDecoder(raw)
	for d.Next() {
		if err := decodeAt(&d, &t.Epoch, &t.Position, &t.Marks); err != nil {
			return err
		}
		if d.Field != 5 {
			continue
		}
		var k Tree
		e := wire.NewDecoder(d.Bytes())
		for e.Next() {
			if err := k.Root.field(&e); err != nil {
				return err
			}
			if e.Field == 5 {
				leaves := e.Bytes()
				k.Leaves = make([][leafSize]byte, len(leaves)/leafSize)
				for i := range k.Leaves {
					copy(k.Leaves[i][:], leaves[i*leafSize:])
				}
			}
		}
		if err := e.Err(); err != nil {
			return err
		}
		if len(k.Leaves) != 1<<k.Bits {
			return store.Errorf(store.KindInvalid, "a tree with %d leaves instead of %d", len(k.Leaves), 1<<k.Bits)
		}
		t.Kinds = append(t.Kinds, k)
	}
	return d.Err()
}

// AppendWire appends the listing's fields.
func (l *Listing) AppendWire(b []byte) []byte {
	b = appendAt(b, l.Epoch, l.Position, [3]uint64{})
	for i := range l.Entries {
		e := &l.Entries[i]
		b = wire.Message(b, 5, func(b []byte) []byte { return wire.Bytes(wire.String(b, 1, e.ID), 2, e.Digest[:]) })
	}
	return b
}

// DecodeWire replaces l by what AppendWire wrote.
func (l *Listing) DecodeWire(raw []byte) error {
	*l = Listing{}
	d := wire.NewDecoder(raw)
	for d.Next() {
		if err := decodeAt(&d, &l.Epoch, &l.Position, new([3]uint64)); err != nil {
			return err
		}
		if d.Field != 5 {
			continue
		}
		var en Entry
		e := wire.NewDecoder(d.Bytes())
		for e.Next() {
			switch e.Field {
			case 1:
				en.ID = e.String()
			case 2:
				copy(en.Digest[:], e.Bytes())
			}
		}
		if err := e.Err(); err != nil {
			return err
		}
		l.Entries = append(l.Entries, en)
	}
	return d.Err()
}

// AppendWire appends the fields.
func (r *Rows) AppendWire(b []byte) []byte {
	b = appendAt(b, r.Epoch, r.Position, [3]uint64{})
	for i := range r.Rows {
		b = wire.Message(b, 5, func(b []byte) []byte { return appendRow(b, &r.Rows[i]) })
	}
	return b
}

// DecodeWire replaces r by what AppendWire wrote.
func (r *Rows) DecodeWire(raw []byte) error {
	*r = Rows{}
	d := wire.NewDecoder(raw)
	for d.Next() {
		if err := decodeAt(&d, &r.Epoch, &r.Position, new([3]uint64)); err != nil {
			return err
		}
		if d.Field == 5 {
			row, err := decodeRow(d.Bytes())
			if err != nil {
				return err
			}
			r.Rows = append(r.Rows, row)
		}
	}
	return d.Err()
}

// Ask is what is asked of a source: the fields that the question needs.
type Ask struct {
	Cursor          // Epoch and Position: of Follow
	Kind   Kind     // of Leaves
	Bits   uint8    // likewise
	Leaves []uint32 // likewise
	Keys   []Key    // of Rows
}

// AppendWire appends the fields.
func (a *Ask) AppendWire(b []byte) []byte {
	b = appendAt(b, a.Epoch, a.Position, [3]uint64{})
	b = wire.Uint(b, 5, uint64(a.Kind))
	b = wire.Uint(b, 6, uint64(a.Bits))
	if len(a.Leaves) > 0 {
		packed := make([]byte, 0, 2*len(a.Leaves))
		for _, l := range a.Leaves {
			packed = binary.AppendUvarint(packed, uint64(l))
		}
		b = wire.Bytes(b, 7, packed)
	}
	for i := range a.Keys {
		b = wire.Message(b, 8, func(b []byte) []byte { return appendRow(b, &Row{Key: a.Keys[i]}) })
	}
	return b
}

// DecodeWire replaces a by what AppendWire wrote.
func (a *Ask) DecodeWire(raw []byte) error {
	*a = Ask{}
	d := wire.NewDecoder(raw)
	for d.Next() {
		if err := decodeAt(&d, &a.Epoch, &a.Position, new([3]uint64)); err != nil {
			return err
		}
		switch d.Field {
		case 5:
			a.Kind = Kind(d.Uint())
		case 6:
			n := d.Uint()
			if n > maxBits {
				return store.Errorf(store.KindInvalid, "a tree with 1<<%d leaves", n)
			}
			a.Bits = uint8(n)
		case 7:
			for b := d.Bytes(); len(b) > 0; {
				v, n := binary.Uvarint(b)
				if n <= 0 || v >= 1<<maxBits {
					return store.Errorf(store.KindInvalid, "a malformed list of leaves")
				}
				a.Leaves = append(a.Leaves, uint32(v))
				b = b[n:]
			}
		case 8:
			r, err := decodeRow(d.Bytes())
			if err != nil {
				return err
			}
			a.Keys = append(a.Keys, r.Key)
		}
	}
	return d.Err()
}

// maxFrame bounds a batch on the wire. A source keeps far below: one row may be
// large.
const maxFrame = 8 << 20

// WriteBatch writes a batch with its length in front.
func WriteBatch(w io.Writer, t *Batch) error {
	b := t.AppendWire(make([]byte, 4, 512))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err := w.Write(b)
	return err
}

// WriteBatches writes a batch in parts whose rows have at most limit bytes, or are one.
// All but the last part lead nowhere yet.
func WriteBatches(w io.Writer, b *Batch, limit int) error {
	for {
		n, size := 0, 0
		for n < len(b.Rows) && (n == 0 || size+len(b.Rows[n].Data) <= limit) {
			size += len(b.Rows[n].Data)
			n++
		}
		if n == len(b.Rows) {
			return WriteBatch(w, b)
		}
		part := Batch{Epoch: b.Epoch, Top: b.Top, Rows: b.Rows[:n]}
		if err := WriteBatch(w, &part); err != nil {
			return err
		}
		b.Rows = b.Rows[n:]
	}
}

// BatchReader takes the bytes of a stream of batches as they come.
type BatchReader struct {
	Each func(*Batch) error
	buf  bytes.Buffer
}

// Write takes bytes and calls Each for the batches that are complete.
func (r *BatchReader) Write(p []byte) (int, error) {
	r.buf.Write(p)
	for r.buf.Len() >= 4 {
		n := int(binary.BigEndian.Uint32(r.buf.Bytes()))
		if n > maxFrame {
			return 0, store.Errorf(store.KindInvalid, "a batch of %d bytes, at most %d are taken", n, maxFrame)
		}
		if r.buf.Len() < 4+n {
			break
		}
		var t Batch
		if err := t.DecodeWire(r.buf.Next(4 + n)[4:]); err != nil {
			return 0, err
		}
		if err := r.Each(&t); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
