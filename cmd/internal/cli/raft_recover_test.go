package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"landbridge/store"
	"landbridge/store/consensus"
	"landbridge/store/fsm"
	"landbridge/store/raftlog"
	"landbridge/store/state"
)

// serverFolder makes the data directory of a server that knows three keys and, in
// its group, others that it never reached.
func serverFolder(t *testing.T, others ...string) string {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := raftlog.Open(dir, raftlog.Options{RaftID: "self", Fatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		_, trans := raft.NewInmemTransport("10.255.0.1:8300")
		n, err := consensus.New(consensus.Config{NodeID: "self", FSM: fsm.New(state.New(), slog.New(slog.DiscardHandler)),
			Stores: st, Transport: trans, Fatal: func(err error) { t.Error(err) }})
		if err == nil {
			err = n.Start(t.Context())
		}
		if err == nil {
			err = n.Bootstrap([]consensus.Server{{ID: "self", Address: "10.255.0.1:8300", Voter: true}})
		}
		if err != nil {
			t.Fatal(err)
		}
		<-n.Leadership()
		apply := func(kind store.CommandKind, payload []byte) {
			if res, err := n.Apply(t.Context(), store.Command{Kind: kind, Payload: payload}); err != nil || res.Err != nil {
				t.Fatal(err, res.Err)
			}
		}
		apply(store.CmdCluster, (&store.Cluster{ID: "c1", HistoryID: "h1"}).AppendWire(nil))
		for i := range 3 {
			apply(store.CmdKV, (&store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: fmt.Sprint(i)}}).AppendWire(nil))
		}
		if err := st.SetCluster("c1", 0); err != nil {
			t.Fatal(err)
		}
		for i, addr := range others {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_ = n.AddVoter(ctx, fmt.Sprint("other", i+1), addr) // in the log, and never committed
			cancel()
		}
		if err := n.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return dir
}

func runMain(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), args, Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }})
	return code, out.String(), errs.String()
}

func TestRaftRecover(t *testing.T) {
	living, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer living.Close()
	const dead = "127.0.0.1:1" // nobody is given this port
	dir := serverFolder(t, living.Addr().String(), dead)
	recovery := func(wantCode int, wantErr string, args ...string) (r struct {
		LastIndex                 uint64
		Servers                   []recoveryServer
		Voters, Answering, Quorum int
		Address, Refused          string
		Recovered                 bool
		Keys                      int
	}) {
		t.Helper()
		code, stdout, stderr := runMain(t, append([]string{"operator", "raft", "recover", "-data-dir", dir, "-format=json"}, args...)...)
		if code != wantCode || !strings.Contains(stderr, wantErr) {
			t.Fatalf("%v: exit %d, %s, want %d and %q", args, code, stderr, wantCode, wantErr)
		}
		if stdout != "" {
			if err := json.Unmarshal([]byte(stdout), &r); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, stdout)
			}
		}
		return r
	}

	// Two of three answer: the datacenter needs this server, not a new group.
	r := recovery(1, "2 of 3 voters answer or are this server, which is a majority", "-yes")
	if r.Recovered || r.Answering != 2 || r.Quorum != 2 || r.Refused == "" || len(r.Servers) != 3 || !r.Servers[1].Answers || r.Servers[2].Answers {
		t.Errorf("with a majority: %+v", r)
	}
	living.Close()
	r = recovery(1, "Nothing was changed. Say -yes to do it.")
	if r.Recovered || r.Refused != "" || r.Answering != 1 || r.Address != "10.255.0.1:8300" {
		t.Errorf("without -yes: %+v", r)
	}
	_, text, _ := runMain(t, "operator", "raft", "recover", "-data-dir", dir)
	for _, want := range []string{
		fmt.Sprintf("Its log ends at index %d of term 2.", r.LastIndex), "self    10.255.0.1:8300  true   this server", "1 of 3 voters answer",
		"must be off, not only out of reach",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan does not say %q:\n%s", want, text)
		}
	}
	recovery(1, `-address "nowhere" is not IP:PORT`, "-address=nowhere")

	r = recovery(0, "", "-yes", "-address=10.255.0.9:8300")
	if !r.Recovered || r.Keys != 3 || r.Address != "10.255.0.9:8300" {
		t.Errorf("recovered: %+v", r)
	}
	info, err := os.ReadFile(dir + "/raft/peers.info")
	if err != nil || !strings.Contains(string(info), "10.255.0.9:8300") || strings.Contains(string(info), "other1") {
		t.Errorf("peers.info: %s, %v", info, err)
	}
	recovery(1, "this server is the whole group already: start it", "-yes")

	st, err := raftlog.Open(dir, raftlog.Options{RaftID: "self", Fatal: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	recovery(1, "is in use by another process", "-yes")
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	recovery(1, "there is no Raft state in "+dir, "-yes")
}
