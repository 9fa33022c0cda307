package fsm

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"landbridge/store"
	"landbridge/store/state"
)

// What is saved in two passes must come out the same in both.
func TestASnapshotEncodesTheSameTwice(t *testing.T) {
	sn := filled(t, 3000).State().Snapshot()
	var a, b bytes.Buffer
	if err := errors.Join(WriteSnapshot(&a, sn), WriteSnapshot(&b, sn)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("%d and %d bytes, not the same", a.Len(), b.Len())
	}
}

func archived(t *testing.T, f *FSM) []byte {
	var b bytes.Buffer
	if err := WriteSnapshot(&b, f.State().Snapshot().Public()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A restore by a user takes everything of the archive but whom the cluster trusts
// and who it is, and its indexes are above all that readers have seen.
func TestRewrite(t *testing.T) {
	old := filled(t, 3000)
	archive := archived(t, old)
	if bytes.Contains(archive, []byte("secret")) {
		t.Error("a private key is in the archive")
	}
	live := newFSM()
	trust := store.TrustCommand{Trust: store.Trust{Primary: "dc9", RootKey: []byte("live key")}}
	cluster := store.Cluster{ID: "live", HistoryID: "first"}
	live.Apply(logEntry(
		store.Command{Kind: store.CmdCluster, Payload: cluster.AppendWire(nil)},
		store.Command{Kind: store.CmdTrust, Payload: trust.AppendWire(nil)}))
	for range 9000 {
		live.Apply(logEntry(kvCommand("only/live", "x")))
	}
	top := live.State().Index()
	var out bytes.Buffer
	h, err := Rewrite(&out, bytes.NewReader(archive), live.State().Snapshot(), "second")
	if err != nil {
		t.Fatal(err)
	}
	if want := (state.Header{Index: top + 1, Floor: top + 1, Cluster: store.Cluster{ID: "live", HistoryID: "second"}}); h != want {
		t.Errorf("header %+v, want %+v", h, want)
	}
	if err := live.Restore(io.NopCloser(&out)); err != nil {
		t.Fatal(err)
	}
	st := live.State()
	if _, tr := st.Trust(nil); tr == nil || string(tr.RootKey) != "live key" {
		t.Errorf("trust %+v", tr)
	}
	if _, e := st.KVGet(nil, "only/live"); e != nil {
		t.Error("a key of the live cluster is still there")
	}
	_, want := old.State().KVList(nil, "")
	_, got := st.KVList(nil, "")
	if len(got) != len(want) || got[7].ModifyIndex != want[7].ModifyIndex {
		t.Errorf("%d keys, want %d as they were", len(got), len(want))
	}
	if st.Index() != top+1 || st.Floor() != top+1 || st.Cluster() != h.Cluster {
		t.Errorf("index %d, floor %d, cluster %v", st.Index(), st.Floor(), st.Cluster())
	}
	// The floor outlasts a restart and the snapshots to come.
	again := newFSM()
	if err := again.Restore(io.NopCloser(bytes.NewReader(persist(t, live)))); err != nil || again.State().Floor() != top+1 {
		t.Errorf("floor %d, %v", again.State().Floor(), err)
	}
	if r := live.Apply(logEntry(kvCommand("a", "1"))).([]store.Result); r[0].Index != top+2 {
		t.Errorf("the next command has index %d", r[0].Index)
	}
}

// The archive's counter counts too: a restore into a new cluster does not give an
// index out twice.
func TestRewriteOfALaterArchive(t *testing.T) {
	old := filled(t, 500)
	h, err := Rewrite(io.Discard, bytes.NewReader(archived(t, old)), newFSM().State().Snapshot(), "h")
	if err != nil || h.Index != old.State().Index()+1 {
		t.Errorf("index %d, %v", h.Index, err)
	}
}

type fullDisk struct{}

func (fullDisk) Write(p []byte) (int, error) {
	if len(p) < 1000 {
		return len(p), nil
	}
	return 0, errors.New("no space left on device")
}

func TestRewriteFails(t *testing.T) {
	archive := archived(t, filled(t, 3000))
	live := newFSM().State().Snapshot()
	if _, err := Rewrite(fullDisk{}, bytes.NewReader(archive), live, "h"); err == nil || errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "no space") {
		t.Errorf("full disk: %v", err)
	}
	if _, err := Rewrite(io.Discard, bytes.NewReader(archive[:len(archive)-1]), live, "h"); !errors.Is(err, ErrSnapshot) {
		t.Errorf("cut short: %v", err)
	}
	for what, want := range map[string]string{"lbstate\x02...": "version 2", "something else": "not the state of a landbridge server"} {
		if _, err := Rewrite(io.Discard, strings.NewReader(what), live, "h"); !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", what, err)
		}
	}
}

// Every kind of record has a name and a form for people.
func TestRecordsAsJSON(t *testing.T) {
	seen := map[string]bool{}
	err := filled(t, 2).State().Snapshot().Encode(func(k state.RecordKind, rec []byte) error {
		b, err := k.AppendJSON(nil, rec)
		if err != nil || len(b) < 2 || b[0] != '{' {
			t.Errorf("%s: %s, %v", k.Name(), b, err)
		}
		seen[k.Name()] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Node", "Service", "Check", "KVS", "Tombstone", "Autopilot", "Trust", "NodeIndex", "TableIndex"} {
		if !seen[name] {
			t.Errorf("no record called %s", name)
		}
	}
}
