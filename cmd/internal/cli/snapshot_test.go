package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"landbridge/store"
	"landbridge/store/archive"
	"landbridge/store/fsm"
	"landbridge/store/state"
)

// archiveOf makes a snapshot file with some keys.
func archiveOf(t *testing.T, keys ...string) []byte {
	t.Helper()
	st := state.New()
	for _, k := range keys {
		c := store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: k, Value: []byte("value")}}
		st.Apply([]store.Command{{Kind: store.CmdKV, Payload: c.AppendWire(nil)}}, make([]store.Result, 1))
	}
	var b bytes.Buffer
	sn := st.Snapshot()
	err := archive.Write(&b, archive.NewMeta(2, 274, time.UnixMilli(1795380621114)), func(w io.Writer) error { return fsm.WriteSnapshot(w, sn) })
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func foreignArchive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	err := archive.Write(&b, archive.NewMeta(2, 9, time.UnixMilli(1)), func(w io.Writer) error {
		_, err := io.WriteString(w, "state of something else")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// damaged changes a run of bytes: a single bit may be padding.
func damaged(b []byte) []byte {
	b = bytes.Clone(b)
	for i := range 40 {
		b[len(b)/2+i] ^= 0x55
	}
	return b
}

// agent answers the snapshot API with body, and remembers what it was sent.
type snapshotAgent struct {
	*httptest.Server
	body  []byte
	abort bool
	put   []byte
	fail  string
}

func newSnapshotAgent(t *testing.T) *snapshotAgent {
	a := &snapshotAgent{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/agent/self":
			io.WriteString(w, `{"Config":{"Datacenter":"dc1","NodeName":"n1","Version":"1.21.4"},"Stats":{"consul":{"leader":"true"}}}`)
		case r.Method == http.MethodGet && a.fail != "":
			w.WriteHeader(500)
			io.WriteString(w, a.fail)
		case r.Method == http.MethodGet:
			w.Write(a.body)
			if a.abort {
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
		default:
			a.put, _ = io.ReadAll(r.Body)
			if a.fail != "" {
				w.WriteHeader(500)
				io.WriteString(w, a.fail)
			}
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// run runs a command and returns its exit code and output.
func (a *snapshotAgent) run(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, errs strings.Builder
	addr := ""
	if a != nil {
		addr = a.Listener.Addr().String()
	}
	code := Main(t.Context(), args, Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(k string) string {
		if k == "CONSUL_HTTP_ADDR" {
			return addr
		}
		return ""
	}})
	return code, out.String(), errs.String()
}

func TestSnapshotSaveAndRestore(t *testing.T) {
	t.Chdir(t.TempDir())
	a := newSnapshotAgent(t)
	a.body = archiveOf(t, "a", "b")
	if code, out, errs := a.run(t, "snapshot", "save", "b.snap"); code != 0 || out != "Saved and verified snapshot to index 274\n" {
		t.Fatalf("%d %q %q", code, out, errs)
	}
	got, err := os.ReadFile("b.snap")
	fi, _ := os.Stat("b.snap")
	if err != nil || !bytes.Equal(got, a.body) || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file has %d bytes, %v", len(got), err)
	}
	if code, out, errs := a.run(t, "snapshot", "restore", "b.snap"); code != 0 || out != "Restored snapshot\n" || !bytes.Equal(a.put, a.body) {
		t.Errorf("restore: %d %q %q, %d bytes sent", code, out, errs, len(a.put))
	}
	if code, _, errs := a.run(t, "snapshot", "save", "-append-filename=version,dc,node,status", "c.snap"); code != 0 {
		t.Error(errs)
	}
	if _, err := os.Stat("c-1.21.4-dc1-n1-leader.snap"); err != nil {
		t.Error(err)
	}
	a.fail = "No cluster leader"
	code, _, errs := a.run(t, "snapshot", "restore", "b.snap")
	if want := "Error restoring snapshot: Unexpected response code: 500 (No cluster leader)\n"; code != 1 || errs != want {
		t.Errorf("%d %q", code, errs)
	}
	if code, _, errs := a.run(t, "snapshot", "save", "d.snap"); code != 1 || !strings.Contains(errs, "Error saving snapshot: Unexpected response code: 500") {
		t.Errorf("%d %q", code, errs)
	}
}

// What does not arrive whole leaves no file, and harms none that is there.
func TestSnapshotSaveKeepsNoHalves(t *testing.T) {
	t.Chdir(t.TempDir())
	a := newSnapshotAgent(t)
	whole := archiveOf(t, "a", "b")
	for name, set := range map[string]func(){
		"broken off": func() { a.body, a.abort = whole[:100], true },
		"cut short":  func() { a.body, a.abort = whole[:100], false },
		"damaged":    func() { a.body = damaged(whole) },
		"foreign":    func() { a.body = foreignArchive(t) },
	} {
		set()
		if err := os.WriteFile("old.snap", []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := a.run(t, "snapshot", "save", "old.snap")
		if code != 1 || out != "" || !strings.HasPrefix(errs, "Error ") {
			t.Errorf("%s: %d %q %q", name, code, out, errs)
		}
		if b, _ := os.ReadFile("old.snap"); string(b) != "old" {
			t.Errorf("%s: the old file has changed", name)
		}
		if left, _ := filepath.Glob("*"); len(left) != 1 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestSnapshotRestoreLooksFirst(t *testing.T) {
	t.Chdir(t.TempDir())
	a := newSnapshotAgent(t)
	whole := archiveOf(t, "a")
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"foreign":   {foreignArchive(t), "was not written by landbridge"},
		"truncated": {whole[:len(whole)-20], "failed to decompress snapshot: unexpected EOF"},
		"no gzip":   {[]byte("hello, I am text"), "gzip: invalid header"},
	} {
		if err := os.WriteFile("f", c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := a.run(t, "snapshot", "restore", "f"); code != 1 || !strings.Contains(errs, c.want) || a.put != nil {
			t.Errorf("%s: %d %q, %d bytes sent", name, code, errs, len(a.put))
		}
	}
}

func TestSnapshotInspect(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("b.snap", archiveOf(t, "app/a/1", "app/a/2", "app/b/1", "other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("foreign.snap", foreignArchive(t), 0o600); err != nil {
		t.Fatal(err)
	}
	var none *snapshotAgent
	code, out, errs := none.run(t, "snapshot", "inspect", "-kvdetails", "b.snap")
	want := ` ID           2-274-1795380621114
 Size         131
 Index        274
 Term         2
 Version      1

 Type            Count      Size
 ----            ----       ----
 KVS             4          78B
 TableIndex      1          2B
 ----            ----       ----
 Total                      80B

 Key Name      Count      Size
 ----          ----       ----
 app/a         2          40B
 app/b         1          20B
 other         1          18B
 ----          ----       ----
 Total                    78B
`
	if code != 0 || out != want {
		t.Errorf("%d %q\n%s\nwant\n%s", code, errs, out, want)
	}
	_, out, _ = none.run(t, "snapshot", "inspect", "-kvdetails", "-kvdepth=1", "-kvfilter=app", "b.snap")
	if !strings.Contains(out, "\n app           3          60B\n") {
		t.Errorf("by the first part:\n%s", out)
	}
	_, out, _ = none.run(t, "snapshot", "inspect", "-format=json", "b.snap")
	if !strings.Contains(out, `"Index": 274,`) || !strings.Contains(out, `"Name": "KVS",
            "Sum": 78,
            "Count": 4`) {
		t.Errorf("in JSON:\n%s", out)
	}
	code, out, errs = none.run(t, "snapshot", "inspect", "foreign.snap")
	if code != 0 || !strings.Contains(out, " Index        9\n") || !strings.Contains(errs, "not written by landbridge") {
		t.Errorf("foreign: %d %q %q", code, out, errs)
	}
	if code, _, errs := none.run(t, "snapshot", "inspect", "missing"); code != 1 || !strings.HasPrefix(errs, "Error opening snapshot file: ") {
		t.Errorf("missing: %d %q", code, errs)
	}
}

func TestSnapshotDecode(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("b.snap", archiveOf(t, "k"), 0o600); err != nil {
		t.Fatal(err)
	}
	var none *snapshotAgent
	code, out, errs := none.run(t, "snapshot", "decode", "b.snap")
	want := `{"Type":"TableIndex","Data":{"KV":2,"KVFloor":0,"Nodes":0,"Services":0,"Checks":0}}
{"Type":"KVS","Data":{"LockIndex":0,"Key":"k","Flags":0,"Value":"dmFsdWU=","CreateIndex":2,"ModifyIndex":2}}
`
	if code != 0 || out != want {
		t.Errorf("%d %q\n%s", code, errs, out)
	}
	if err := os.WriteFile("f.snap", foreignArchive(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := none.run(t, "snapshot", "decode", "f.snap"); code != 1 || !strings.Contains(errs, "not written by landbridge") {
		t.Errorf("foreign: %d %q", code, errs)
	}
}

func TestByteSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1KB", 1536: "1.5KB", 5 << 20: "5MB", 3 << 40: "3TB", 4000 << 40: "4000TB"} {
		if got := byteSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
