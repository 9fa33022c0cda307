package raftlog

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft-wal/types"
)

// What raft-wal writes to a segment: a header, then frames of a kind and a length,
// padded to 8 bytes. A commit, which holds a CRC-32C of what was written since the
// one before in place of a length, ends each append.
const (
	segmentHeader = 32
	frameHeader   = 8
	frameEntry    = 1
	frameIndex    = 2 // of the append that fills the segment
	frameCommit   = 3
)

// cutTorn removes from the end of a segment what is there of an append that did not
// get there as a whole: raft-wal finds the end, but takes the segment for full if the
// torn append has an index, whole or not, and what it leaves behind the end may look
// like a later append's after another crash. Whatever is left is durable on return.
func (f *file) cutTorn() error {
	end, err := wholeEnd(f.WritableFile)
	if err != nil {
		return err
	}
	buf := make([]byte, zeroChunk)
	for at := end; ; at += int64(len(buf)) {
		n, err := f.WritableFile.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WritableFile.WriteAt(zeros[:n], at); err != nil {
				return err
			}
		}
		if n < len(buf) {
			return f.syncNow()
		}
	}
}

// wholeEnd returns where the last whole append of a segment ends. As raft-wal, it
// takes for granted that all but the last one are.
func wholeEnd(f types.ReadableFile) (int64, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, segmentHeader, 1<<40), 64<<10)
	var before, end int64 // of the last two appends
	var sum uint32        // of the last one
	more := false         // there are frames behind it
	for at := int64(segmentHeader); ; {
		h, err := r.Peek(frameHeader)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		size := frameHeader
		switch {
		case len(h) == frameHeader && (h[0] == frameEntry || h[0] == frameIndex):
			size += (int(binary.LittleEndian.Uint32(h[4:])) + 7) &^ 7
			more = true
		case len(h) == frameHeader && h[0] == frameCommit:
			before, end, more = end, at+frameHeader, false
			sum = binary.LittleEndian.Uint32(h[4:])
		default:
			if end == 0 || more {
				return end, nil
			}
			crc := crc32.New(castagnoli())
			if _, err := io.Copy(crc, io.NewSectionReader(f, before, end-frameHeader-before)); err != nil {
				return 0, err
			}
			if crc.Sum32() != sum {
				return before, nil
			}
			return end, nil
		}
		if _, err := r.Discard(size); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		at += int64(size)
	}
}
