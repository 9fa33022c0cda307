package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func write(t testing.TB, state string) []byte {
	t.Helper()
	m := NewMeta(2, 417, time.UnixMilli(1795380621114))
	m.Configuration.Servers = []Server{{ID: "id", Address: "127.0.0.1:8300"}}
	m.ConfigurationIndex = 1
	var b bytes.Buffer
	if err := Write(&b, m, func(w io.Writer) error { _, err := io.WriteString(w, state); return err }); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read returns the state of an archive, and whether it is whole.
func read(r io.Reader) (string, Meta, error) {
	a, err := Open(r)
	if err != nil {
		return "", Meta{}, err
	}
	b, err := io.ReadAll(a)
	if err == nil {
		err = a.Verify()
	}
	return string(b), a.Meta, err
}

func TestRoundTrip(t *testing.T) {
	for _, state := range []string{"", "s", strings.Repeat("state", 100_000)} {
		b := write(t, state)
		got, meta, err := read(iotest.OneByteReader(bytes.NewReader(b)))
		if err != nil || got != state {
			t.Fatalf("%d bytes, want %d: %v", len(got), len(state), err)
		}
		if meta.ID != "2-417-1795380621114" || meta.Index != 417 || meta.Term != 2 || meta.Size != int64(len(state)) || len(meta.Configuration.Servers) != 1 {
			t.Errorf("meta %+v", meta)
		}
		// Verify alone reads all that Read has left.
		a, err := Open(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Verify(); err != nil {
			t.Error(err)
		}
	}
}

// The envelope is one that any tar and sha256sum read.
func TestEnvelope(t *testing.T) {
	gz, err := gzip.NewReader(bytes.NewReader(write(t, "the state")))
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(gz)
	var names []string
	var all []string
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		names, all = append(names, h.Name), append(all, string(b))
	}
	if strings.Join(names, " ") != "meta.json state.bin SHA256SUMS" {
		t.Fatalf("members %v", names)
	}
	if want := `{"Version":1,"ID":"2-417-1795380621114","Index":417,"Term":2,"Peers":"","Configuration":{"Servers":[{"Suffrage":0,"ID":"id","Address":"127.0.0.1:8300"}]},"ConfigurationIndex":1,"Size":9}`; all[0] != want {
		t.Errorf("meta.json is\n%s, want\n%s", all[0], want)
	}
	if want := fmt.Sprintf("%x  meta.json\n%x  state.bin\n", sha256.Sum256([]byte(all[0])), sha256.Sum256([]byte("the state"))); all[2] != want {
		t.Errorf("SHA256SUMS is\n%s, want\n%s", all[2], want)
	}
}

// An archive of which a byte is missing, changed or added is not whole.
func TestDamage(t *testing.T) {
	good := write(t, strings.Repeat("0123456789abcdef", 20))
	for i := range good {
		if _, _, err := read(bytes.NewReader(good[:i])); err == nil {
			t.Errorf("cut at %d of %d: no error", i, len(good))
		} else if i > 10 && i < len(good)-9 && err.Error() != "failed to decompress snapshot: unexpected EOF" {
			t.Errorf("cut at %d: %v", i, err)
		}
		b := bytes.Clone(good)
		b[i] ^= 4
		state, meta, err := read(bytes.NewReader(b))
		// Some bits of gzip (time, system, padding) say nothing about the content.
		if err == nil && (state != strings.Repeat("0123456789abcdef", 20) || meta.Index != 417) {
			t.Errorf("byte %d changed: no error", i)
		}
	}
	if _, _, err := read(bytes.NewReader(append(bytes.Clone(good), "more"...))); err == nil {
		t.Error("something behind the end: no error")
	}
	if _, _, err := read(io.MultiReader(bytes.NewReader(good[:100]), iotest.ErrReader(errors.New("cable")))); err == nil || err.Error() != "cable" {
		t.Errorf("an error of the source: %v", err)
	}
}

type member struct{ name, text string }

func pack(members ...member) []byte {
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for _, m := range members {
		tw.WriteHeader(&tar.Header{Name: m.name, Mode: 0o600, Size: int64(len(m.text))})
		io.WriteString(tw, m.text)
	}
	tw.Close()
	gz.Close()
	return b.Bytes()
}

func TestForeignFiles(t *testing.T) {
	sum := func(name, text string) string { return fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(text)), name) }
	meta := member{"meta.json", `{"Version":1,"Size":5}`}
	state := member{"state.bin", "state"}
	sums := sum(meta.name, meta.text) + sum(state.name, state.text)
	if _, _, err := read(bytes.NewReader(pack(meta, state, member{"SHA256SUMS", sums}))); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "failed to decompress snapshot: unexpected EOF"},
		{"text", []byte("hello, this is not a snapshot"), "failed to decompress snapshot: gzip: invalid header"},
		{"no tar", func() []byte {
			var b bytes.Buffer
			gz := gzip.NewWriter(&b)
			io.WriteString(gz, strings.Repeat("x", 2000))
			gz.Close()
			return b.Bytes()
		}(), "invalid tar header"},
		{"empty tar", pack(), "it has no meta.json"},
		{"another file", pack(member{"README", "hi"}), `member "README" where meta.json is expected`},
		{"no state", pack(meta), "it has no state.bin"},
		{"no sums", pack(meta, state), "it has no SHA256SUMS"},
		{"bad meta", pack(member{"meta.json", "{"}), "meta.json: unexpected end of JSON input"},
		{"a version to come", pack(member{"meta.json", `{"Version":2}`}), "it has version 2, this landbridge reads 1"},
		{"another size", pack(meta, member{"state.bin", "statistics"}), "state.bin has 10 bytes, meta.json says 5"},
		{"wrong sum", pack(meta, member{"state.bin", "stale"}, member{"SHA256SUMS", sums}), `hash check failed for "state.bin"`},
		{"wrong sum of meta", pack(member{"meta.json", `{"Version":1,"Size":5,"Index":9}`}, state, member{"SHA256SUMS", sums}), `hash check failed for "meta.json"`},
		{"a sum missing", pack(meta, state, member{"SHA256SUMS", sum(meta.name, meta.text)}), `does not name "state.bin"`},
		{"a sum too many", pack(meta, state, member{"SHA256SUMS", sums + sum("x", "x")}), `names "x"`},
		{"a sum twice", pack(meta, state, member{"SHA256SUMS", sums + sum(meta.name, meta.text)}), "comes twice"},
		{"a line that is none", pack(meta, state, member{"SHA256SUMS", "hello"}), "has a line"},
		{"a member too many", pack(meta, state, member{"SHA256SUMS", sums}, member{"x", ""}), `it has a member "x"`},
		{"a huge member", pack(member{"meta.json", strings.Repeat(" ", 2<<20)}), "meta.json has 2097152 bytes"},
	} {
		if _, _, err := read(bytes.NewReader(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
	}
}

// A state that changes between its two passes is noticed.
func TestStateThatChanges(t *testing.T) {
	for _, next := range []string{"longer than it was", "s"} {
		pass := 0
		err := Write(io.Discard, NewMeta(1, 1, time.Now()), func(w io.Writer) error {
			if pass++; pass == 1 {
				_, err := io.WriteString(w, "the state")
				return err
			}
			_, err := io.WriteString(w, next)
			return err
		})
		if err == nil {
			t.Errorf("%q: no error", next)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(write(f, "the state"))
	f.Add(pack(member{"meta.json", `{"Version":1}`}, member{"state.bin", ""}, member{"SHA256SUMS", ""}))
	f.Fuzz(func(t *testing.T, b []byte) { read(io.LimitReader(bytes.NewReader(b), 1<<20)) })
}
