package rpc

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"landbridge/store"
)

const protocolVersion = 1

// Kinds of streams: the first byte of each.
const (
	streamLane   byte = 1
	streamCall   byte = 2
	streamAnswer byte = 3
	streamBytes  byte = 4
	streamPiece  byte = 5
)

// Types of frames. A type that is not known is skipped.
const (
	frameRequest  byte = 1
	frameResponse byte = 2
	frameError    byte = 3 // with id 0: about the whole stream, which ends
	frameCancel   byte = 4
	framePing     byte = 5
	framePong     byte = 6
	frameStopping byte = 7  // the server runs no new calls; the client leaves when its last one is answered
	frameData     byte = 8  // a piece of a stream of bytes
	frameEnd      byte = 9  // the end of a stream of bytes: all of it came
	frameApart    byte = 10 // instead of an answer: a ticket for it
	frameName     byte = 11 // of the agent whose session this is
)

// maxName is the longest name of an agent.
const maxName = 128

const (
	preambleSize = 2
	headerSize   = 9
	// readChunk is what a reader allocates before the bytes are there.
	readChunk = 64 << 10
)

type frameHeader struct {
	id  uint32
	typ byte
	n   uint32
}

func appendPreamble(b []byte, kind byte) []byte { return append(b, kind, protocolVersion) }

func appendHeader(b []byte, h frameHeader) []byte {
	b = binary.BigEndian.AppendUint32(b, h.id)
	b = append(b, h.typ)
	return binary.BigEndian.AppendUint32(b, h.n)
}

// putHeader completes a frame whose header space is the first headerSize bytes
// of b and whose payload is the rest plus more bytes that follow apart.
func putHeader(b []byte, id uint32, typ byte, more int) {
	binary.BigEndian.PutUint32(b, id)
	b[4] = typ
	binary.BigEndian.PutUint32(b[5:], uint32(len(b)-headerSize+more))
}

func parseHeader(b []byte) frameHeader {
	return frameHeader{binary.BigEndian.Uint32(b), b[4], binary.BigEndian.Uint32(b[5:])}
}

// readPreamble returns the kind of a stream.
func readPreamble(r io.Reader) (byte, error) {
	var b [preambleSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	if b[1] != protocolVersion {
		return b[0], store.Errorf(store.KindInvalid, "protocol version %d of stream kind %d is not supported: this agent speaks version %d", b[1], b[0], protocolVersion)
	}
	return b[0], nil
}

// readHeader reads one frame's header and refuses one larger than max.
func readHeader(r *bufio.Reader, max int) (frameHeader, error) {
	b, err := r.Peek(headerSize)
	if err != nil {
		if err == io.EOF && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return frameHeader{}, err
	}
	h := parseHeader(b)
	r.Discard(headerSize)
	if uint64(h.n) > uint64(max) {
		return h, fmt.Errorf("%w: a frame of type %d announces %d bytes, at most %d are accepted", errFrameTooLarge, h.typ, h.n, max)
	}
	return h, nil
}

var errFrameTooLarge = store.Errorf(store.KindTooLarge, "frame too large")

// readPayload returns n fresh bytes. Large ones are allocated as they arrive;
// grow, if not nil, is asked before each further allocation.
func readPayload(r *bufio.Reader, n int, grow func(more int) error) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if n <= r.Size() {
		// All n bytes are here before they are allocated for.
		b, err := r.Peek(n)
		if err != nil {
			return nil, unexpected(err)
		}
		if grow != nil {
			if err := grow(n); err != nil {
				return nil, err
			}
		}
		p := make([]byte, n)
		copy(p, b)
		r.Discard(n)
		return p, nil
	}
	var p []byte
	for len(p) < n {
		step := min(n-len(p), max(readChunk, len(p)))
		if grow != nil {
			if err := grow(step); err != nil {
				return nil, err
			}
		}
		q := make([]byte, len(p)+step)
		copy(q, p)
		if _, err := io.ReadFull(r, q[len(p):]); err != nil {
			return nil, unexpected(err)
		}
		p = q
	}
	return p, nil
}

// unexpected says that a stream ended inside a frame.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
