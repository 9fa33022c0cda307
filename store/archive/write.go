package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Names of the members.
const (
	metaName  = "meta.json"
	stateName = "state.bin"
	sumsName  = "SHA256SUMS"
)

// Write writes an archive. state is called twice and must write the same bytes
// each time: a tar file says how long a member is before its first byte, and the
// first call only counts.
func Write(w io.Writer, meta Meta, state func(io.Writer) error) error {
	var size counter
	if err := state(&size); err != nil {
		return err
	}
	meta.Size = int64(size)
	text, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	// The fastest level: most of a state does not get much smaller at others, and
	// all of the time goes here.
	gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(gz)
	now := time.Now()
	var sums bytes.Buffer
	member := func(name string, size int64, fill func(io.Writer) error) error {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: now}); err != nil {
			return err
		}
		sum := sha256.New()
		buf := bufio.NewWriterSize(io.MultiWriter(tw, sum), 64<<10)
		if err := fill(buf); err != nil {
			return err
		}
		if err := buf.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), name)
		return nil
	}
	bytesOf := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	if err := member(metaName, int64(len(text)), bytesOf(text)); err != nil {
		return err
	}
	if err := member(stateName, meta.Size, state); err != nil {
		return err
	}
	list := bytes.Clone(sums.Bytes())
	if err := member(sumsName, int64(len(list)), bytesOf(list)); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return gz.Close()
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
