package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"landbridge/store"
	"landbridge/store/state"
	"landbridge/store/wire"
)

// The stream is magic, then frames: length and checksum (4 bytes each, little
// endian), payload. A payload begins with the frame's type.
const (
	magic = "lbstate\x01" // the last byte is the format's version

	frameHeader  = 1 // fields of the header
	frameRecords = 2 // records, each: kind, length (both varint), bytes
	frameTrailer = 3 // fields of the trailer; nothing follows

	frameTarget = 64 << 10  // a frame is closed once it is this long
	frameMax    = 256 << 20 // longer ones are refused
)

// ErrSnapshot is wrapped by every error about a snapshot's content.
var ErrSnapshot = errors.New("snapshot is damaged or not one of this version")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteSnapshot writes the stream of a snapshot.
func WriteSnapshot(w io.Writer, sn *state.Snapshot) error {
	sw, err := newStreamWriter(w, sn.Header())
	if err != nil {
		return err
	}
	if err := sn.Encode(sw.add); err != nil {
		return err
	}
	return sw.close()
}

// Rewrite writes the stream that a restore by a user gives to Raft: the records of
// archive, but of the live cluster those that a restore keeps, under a header with
// the live cluster's id, a new history and an index above both. The archive is
// verified on the way, and its end says whether it was whole: after an error what
// was written is of no use.
func Rewrite(w io.Writer, archive io.Reader, live *state.Snapshot, historyID string) (state.Header, error) {
	var h state.Header
	var sw *streamWriter
	err := Scan(archive, func(old state.Header) (err error) {
		h = state.Header{Index: max(old.Index, live.Header().Index) + 1, Cluster: live.Header().Cluster}
		h.Floor, h.Cluster.HistoryID = h.Index, historyID
		sw, err = newStreamWriter(w, h)
		return err
	}, func(kind state.RecordKind, record []byte) error {
		if kind.Kept() {
			return nil
		}
		return sw.add(kind, record)
	})
	if sw != nil && sw.failed != nil {
		return h, sw.failed // of w: the archive is not to blame
	}
	if err != nil {
		return h, err
	}
	if err := live.EncodeKept(sw.add); err != nil {
		return h, err
	}
	return h, sw.close()
}

// streamWriter writes a stream: its header first, then records, then its trailer.
type streamWriter struct {
	frameWriter
	records uint64
}

func newStreamWriter(w io.Writer, h state.Header) (*streamWriter, error) {
	s := &streamWriter{frameWriter: frameWriter{w: w, sum: crc32.Checksum([]byte(magic), castagnoli)}}
	if _, err := io.WriteString(w, magic); err != nil {
		return nil, err
	}
	s.begin(frameHeader)
	s.buf = wire.Uint(s.buf, 1, uint64(h.Index))
	s.buf = wire.Message(s.buf, 2, h.Cluster.AppendWire)
	s.buf = wire.Uint(s.buf, 3, uint64(h.Floor))
	if err := s.end(); err != nil {
		return nil, err
	}
	s.begin(frameRecords)
	return s, nil
}

func (s *streamWriter) add(kind state.RecordKind, record []byte) error {
	s.records++
	s.buf = binary.AppendUvarint(s.buf, uint64(kind))
	s.buf = binary.AppendUvarint(s.buf, uint64(len(record)))
	s.buf = append(s.buf, record...)
	if len(s.buf) < frameTarget {
		return nil
	}
	err := s.end()
	s.begin(frameRecords)
	return err
}

func (s *streamWriter) close() error {
	if err := s.end(); err != nil {
		return err
	}
	s.begin(frameTrailer)
	s.buf = wire.Uint(s.buf, 1, s.records)
	return s.end()
}

// frameWriter builds a frame in buf, behind room for its head.
type frameWriter struct {
	w      io.Writer
	buf    []byte
	sum    uint32 // of everything written so far
	failed error  // the first error of w
}

func (f *frameWriter) begin(typ byte) { f.buf = append(f.buf[:0], 0, 0, 0, 0, 0, 0, 0, 0, typ) }

func (f *frameWriter) end() error {
	f.sum = crc32.Update(f.sum, castagnoli, f.buf[8:])
	binary.LittleEndian.PutUint32(f.buf, uint32(len(f.buf)-8))
	binary.LittleEndian.PutUint32(f.buf[4:], f.sum)
	_, err := f.w.Write(f.buf)
	if f.failed == nil {
		f.failed = err
	}
	return err
}

// ReadSnapshot reads and verifies a whole stream.
func ReadSnapshot(r io.Reader) (im *state.Image, err error) {
	err = Scan(r, func(h state.Header) error {
		im = state.NewImage(h)
		return nil
	}, func(kind state.RecordKind, record []byte) error { return im.Add(kind, record) })
	if err != nil {
		return nil, err
	}
	return im, nil
}

// Scan reads and verifies a whole stream without keeping it: header is called
// once, then each for every record, whose bytes are valid until it returns. An
// error of theirs ends it. What they saw is true only if Scan returns nil.
func Scan(r io.Reader, header func(state.Header) error, each func(kind state.RecordKind, record []byte) error) error {
	var head [len(magic)]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return damaged("its beginning", noEOF(err))
	}
	switch {
	case string(head[:]) == magic:
	case string(head[:len(magic)-1]) == magic[:len(magic)-1]:
		return fmt.Errorf("%w: it has version %d of the format, this landbridge reads %d", ErrSnapshot, head[len(magic)-1], magic[len(magic)-1])
	default:
		return fmt.Errorf("%w: it is not the state of a landbridge server", ErrSnapshot)
	}
	fr := &frameReader{r: r, sum: crc32.Checksum([]byte(magic), castagnoli)}
	typ, payload, err := fr.next()
	if err != nil {
		return err
	}
	if typ != frameHeader {
		return fmt.Errorf("%w: no header", ErrSnapshot)
	}
	h, err := decodeHeader(payload)
	if err != nil {
		return damaged("its header", err)
	}
	if err := header(h); err != nil {
		return err
	}
	records := uint64(0)
	for {
		typ, payload, err := fr.next()
		if err != nil {
			return err
		}
		switch typ {
		case frameRecords:
			n, err := eachRecord(payload, each)
			if err != nil {
				return damaged(fmt.Sprintf("record %d", records+n), err)
			}
			records += n
		case frameTrailer:
			if err := checkTrailer(payload, records); err != nil {
				return err
			}
			return fr.atEnd()
		default:
			return fmt.Errorf("%w: a frame of type %d", ErrSnapshot, typ)
		}
	}
}

func damaged(where string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrSnapshot, where, err)
}

func decodeHeader(b []byte) (h state.Header, err error) {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			h.Index = store.Index(d.Uint())
		case 2:
			if err := h.Cluster.DecodeWire(d.Bytes()); err != nil {
				return h, err
			}
		case 3:
			h.Floor = store.Index(d.Uint())
		}
	}
	return h, d.Err()
}

func eachRecord(b []byte, each func(state.RecordKind, []byte) error) (n uint64, err error) {
	for len(b) > 0 {
		kind, k := binary.Uvarint(b)
		if k <= 0 || kind > 1<<16-1 {
			return n, errors.New("no kind")
		}
		b = b[k:]
		size, k := binary.Uvarint(b)
		if k <= 0 || size > uint64(len(b)-k) {
			return n, errors.New("longer than its frame")
		}
		if err := each(state.RecordKind(kind), b[k:k+int(size)]); err != nil {
			return n, err
		}
		b = b[k+int(size):]
		n++
	}
	return n, nil
}

func checkTrailer(b []byte, records uint64) error {
	var want uint64
	d := wire.NewDecoder(b)
	for d.Next() {
		if d.Field == 1 {
			want = d.Uint()
		}
	}
	if err := d.Err(); err != nil {
		return damaged("its trailer", err)
	}
	if want != records {
		return fmt.Errorf("%w: %d records, its trailer says %d", ErrSnapshot, records, want)
	}
	return nil
}

type frameReader struct {
	r   io.Reader
	buf bytes.Buffer
	sum uint32
}

// next returns the next frame; its payload is valid until the next call. The
// buffer grows by what arrives, never by a declared length.
func (f *frameReader) next() (typ byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, damaged("a frame's head", noEOF(err))
	}
	size := int64(binary.LittleEndian.Uint32(head[:]))
	if size == 0 || size > frameMax {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", ErrSnapshot, size)
	}
	f.buf.Reset()
	if n, err := f.buf.ReadFrom(io.LimitReader(f.r, size)); err != nil || n < size {
		return 0, nil, damaged("a frame", noEOF(err))
	}
	b := f.buf.Bytes()
	f.sum = crc32.Update(f.sum, castagnoli, b)
	if f.sum != binary.LittleEndian.Uint32(head[4:]) {
		return 0, nil, fmt.Errorf("%w: a checksum does not match", ErrSnapshot)
	}
	return b[0], b[1:], nil
}

func (f *frameReader) atEnd() error {
	var b [1]byte
	if n, err := io.ReadFull(f.r, b[:]); n > 0 || err != io.EOF {
		return fmt.Errorf("%w: something follows its end", ErrSnapshot)
	}
	return nil
}

// noEOF keeps a stream that ends too early from looking like a clean end.
func noEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
