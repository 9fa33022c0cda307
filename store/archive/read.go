package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// maxMember bounds the members beside state.bin: thousands of servers.
const maxMember = 1 << 20

// Reader reads an archive: Open has read meta.json, Read gives state.bin, and
// Verify the rest.
type Reader struct {
	Meta Meta

	gz    *gzipReader
	tr    *tar.Reader
	state io.Reader
	sums  map[string]string // of the members, as they came
	sum   hash.Hash
}

// Open reads the beginning of an archive up to its state.
func Open(r io.Reader) (*Reader, error) {
	gz, err := newGzipReader(r)
	if err != nil {
		return nil, err
	}
	a := &Reader{gz: gz, tr: tar.NewReader(gz), sums: make(map[string]string), sum: sha256.New()}
	text, err := a.small(metaName)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &a.Meta); err != nil {
		return nil, fmt.Errorf("failed to read snapshot file: %s: %w", metaName, err)
	}
	if a.Meta.Version != version {
		return nil, fmt.Errorf("failed to read snapshot file: it has version %d, this landbridge reads %d", a.Meta.Version, version)
	}
	h, err := a.next(stateName)
	if err != nil {
		return nil, err
	}
	if h.Size != a.Meta.Size {
		return nil, fmt.Errorf("failed to read snapshot file: %s has %d bytes, %s says %d", stateName, h.Size, metaName, a.Meta.Size)
	}
	a.state = io.TeeReader(a.tr, a.sum)
	return a, nil
}

// Read reads state.bin.
func (a *Reader) Read(p []byte) (int, error) {
	n, err := a.state.Read(p)
	if err != nil && err != io.EOF {
		err = a.broken(err)
	}
	return n, err
}

// Verify reads what is left and checks all of the archive: nil means that it is
// whole, and as it was written.
func (a *Reader) Verify() error {
	if _, err := io.Copy(io.Discard, a); err != nil {
		return err
	}
	a.sums[stateName] = hex.EncodeToString(a.sum.Sum(nil))
	got := a.sums // without that of the list itself
	a.sums = make(map[string]string)
	list, err := a.small(sumsName)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(list) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "  ")
		if !ok {
			return fmt.Errorf("failed checking integrity of snapshot: %s has a line %q", sumsName, line)
		}
		have, ok := got[name]
		if !ok {
			return fmt.Errorf("failed checking integrity of snapshot: %s names %q, which is not there or comes twice", sumsName, name)
		}
		if have != sum {
			return fmt.Errorf("failed checking integrity of snapshot: hash check failed for %q", name)
		}
		delete(got, name)
	}
	for name := range got {
		return fmt.Errorf("failed checking integrity of snapshot: %s does not name %q", sumsName, name)
	}
	if h, err := a.tr.Next(); err == nil {
		return fmt.Errorf("failed to read snapshot file: it has a member %q", h.Name)
	} else if err != io.EOF {
		return a.broken(err)
	}
	// The end of the gzip stream has a checksum of its own, and nothing follows it.
	if _, err := io.Copy(io.Discard, a.gz); err != nil {
		return a.broken(err)
	}
	return nil
}

// next goes to the next member, which must be the one of this name.
func (a *Reader) next(name string) (*tar.Header, error) {
	h, err := a.tr.Next()
	if err == io.EOF {
		return nil, fmt.Errorf("failed to read snapshot file: it has no %s", name)
	}
	if err != nil {
		return nil, a.broken(err)
	}
	if h.Name != name || h.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("failed to read snapshot file: member %q where %s is expected", h.Name, name)
	}
	return h, nil
}

// small reads a whole member.
func (a *Reader) small(name string) ([]byte, error) {
	h, err := a.next(name)
	if err != nil {
		return nil, err
	}
	if h.Size > maxMember {
		return nil, fmt.Errorf("failed to read snapshot file: %s has %d bytes", name, h.Size)
	}
	b, err := io.ReadAll(a.tr)
	if err != nil {
		return nil, a.broken(err)
	}
	sum := sha256.Sum256(b)
	a.sums[name] = hex.EncodeToString(sum[:])
	return b, nil
}

// broken says at which layer the archive is not what it should be.
func (a *Reader) broken(err error) error {
	if a.gz.err != nil {
		return a.gz.err
	}
	return fmt.Errorf("failed to read snapshot file: %w", err)
}

// gzipReader keeps the error that ended decompression; errors of the source it
// reads from come through as they are.
type gzipReader struct {
	*gzip.Reader
	source *sourceReader
	err    error
}

func newGzipReader(r io.Reader) (*gzipReader, error) {
	src := &sourceReader{r: r}
	z, err := gzip.NewReader(src)
	g := &gzipReader{Reader: z, source: src}
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, g.note(err)
	}
	return g, nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = g.note(err)
	}
	return n, err
}

func (g *gzipReader) note(err error) error {
	if g.source.err != nil && !errors.Is(g.source.err, io.EOF) {
		g.err = g.source.err
	} else {
		g.err = fmt.Errorf("failed to decompress snapshot: %w", err)
	}
	return g.err
}

type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}
