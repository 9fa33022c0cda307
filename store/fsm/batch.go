package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"landbridge/store"
)

// The first byte of a log entry is its version. Version 2 goes on with the time
// of its commands (8 bytes, little endian, Unix nanoseconds); version 1, which is
// only read, had none. Then follow the commands.
const (
	batchVersion     = store.DiskVersion
	batchVersionBare = 1
	batchHead        = 1 + 8
)

// flagIgnorable marks a command that a server may skip if it does not know its
// kind.
const flagIgnorable = 1

var errBatch = errors.New("malformed log entry")

// BatchSize bounds what AppendBatch adds to b for the commands.
func BatchSize(cmds []store.Command) int {
	n := batchHead
	for i := range cmds {
		n += CommandSize(&cmds[i])
	}
	return n
}

// CommandSize bounds a command's share of a batch.
func CommandSize(cmd *store.Command) int {
	return 3 + 1 + binary.MaxVarintLen32 + len(cmd.Payload)
}

// AppendBatch appends the log entry of the commands, which share the time of the
// first one.
func AppendBatch(b []byte, cmds []store.Command) []byte {
	var at int64
	if len(cmds) > 0 {
		at = cmds[0].UnixNano
	}
	b = append(b, batchVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	for i := range cmds {
		cmd := &cmds[i]
		var flags byte
		if cmd.Ignorable {
			flags |= flagIgnorable
		}
		b = binary.AppendUvarint(b, uint64(cmd.Kind))
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(len(cmd.Payload)))
		b = append(b, cmd.Payload...)
	}
	return b
}

// DecodeBatch appends the commands of a log entry to cmds. Their payloads are
// sub-slices of data.
func DecodeBatch(cmds []store.Command, data []byte) ([]store.Command, error) {
	if len(data) == 0 {
		return cmds, fmt.Errorf("%w: empty", errBatch)
	}
	var at int64
	rest := data[1:]
	switch data[0] {
	case batchVersionBare:
	case batchVersion:
		if len(data) < batchHead {
			return cmds, fmt.Errorf("%w: no time", errBatch)
		}
		at = int64(binary.LittleEndian.Uint64(rest))
		rest = data[batchHead:]
	default:
		return cmds, fmt.Errorf("%w: version %d, this landbridge reads up to %d", errBatch, data[0], batchVersion)
	}
	for len(rest) > 0 {
		kind, n := binary.Uvarint(rest)
		if n <= 0 || kind > 1<<16-1 || len(rest) == n {
			return cmds, fmt.Errorf("%w: kind of command %d", errBatch, len(cmds))
		}
		flags := rest[n]
		rest = rest[n+1:]
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return cmds, fmt.Errorf("%w: length of command %d", errBatch, len(cmds))
		}
		payload := rest[n : n+int(size) : n+int(size)]
		rest = rest[n+int(size):]
		cmds = append(cmds, store.Command{
			Kind:      store.CommandKind(kind),
			Ignorable: flags&flagIgnorable != 0,
			Payload:   payload,
			UnixNano:  at,
		})
	}
	return cmds, nil
}
