package cli

import (
	"bufio"
	"errors"
	"io"
	"os"

	"landbridge/store/archive"
	"landbridge/store/fsm"
	"landbridge/store/state"
)

// errForeign is what reading the records of another product's archive ends with.
var errForeign = errors.New("the archive is whole, but its state was not written by landbridge: only landbridge's own snapshots can be restored or looked into")

// readSnapshot reads and checks the whole of an archive, record by record. meta is
// what its description says, also with an error that concerns what follows it.
func readSnapshot(r io.Reader, each func(kind state.RecordKind, record []byte) error) (meta archive.Meta, err error) {
	a, err := archive.Open(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return meta, err
	}
	own := false
	err = fsm.Scan(bufio.NewReaderSize(a, 64<<10), func(state.Header) error { own = true; return nil }, each)
	if whole := a.Verify(); whole != nil {
		return a.Meta, whole // explains whatever Scan met
	}
	if err != nil && !own {
		return a.Meta, errForeign
	}
	return a.Meta, err
}

// checkSnapshot is readSnapshot of a file, for its error.
func checkSnapshot(name string) (archive.Meta, error) {
	f, err := os.Open(name)
	if err != nil {
		return archive.Meta{}, err
	}
	defer f.Close()
	return readSnapshot(f, func(state.RecordKind, []byte) error { return nil })
}
