package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"log/slog"
	"net"
	"os"
	"path/filepath"

	"sync"
	"time"

	"landbridge/cmd/internal/config"
	"landbridge/store/consensus"
	"landbridge/store/fsm"
	"landbridge/store/raftlog"
	"landbridge/store/state"
)

func raftRecover() *command {
	return &command{
		name:     "operator raft recover",
		synopsis: "Make this machine's server the whole Raft group",
		help: `
For a datacenter whose servers are lost for good, but for less than a majority:
makes the server of this machine the whole Raft group, with all that its log holds.
It then leads alone; new servers join it as always.

Run it where the surviving server runs, with the server stopped, as the user whose
the data directory is. Of several survivors take the one whose log ends highest (the
command says where it ends); the others then forget and join:

    $ landbridge operator raft recover -data-dir=/var/lib/landbridge
    $ landbridge operator raft recover -data-dir=/var/lib/landbridge -yes
    $ systemctl start landbridge

    $ landbridge operator raft forget -data-dir=/var/lib/landbridge -yes   # others

Without -yes it only says what it would do. It refuses while so many servers of the
group answer that they are a majority with this one: start this one instead. It
cannot see servers that live where this machine does not reach. Should a server
that was left out come back, it finds out, ends and starts no more until it has
forgotten.

What the lost servers acknowledged and this one had not received is gone. No index
goes back: all who watch are told anew.`,
		setup: func(fs *flag.FlagSet) run {
			l := &config.Loader{}
			l.AddFileFlags(fs)
			dir := fs.String("data-dir", "", "The server's data directory, if no configuration names it. `DIR`")
			address := fs.String("address", "", "Address of this server's Raft port, if it is another than before. `IP:PORT`")
			yes := fs.Bool("yes", false, "Really do it.")
			format := formatFlag(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				data, _, err := c.dataDir(l, *dir)
				if err != nil {
					return err
				}
				r := &recovery{DataDir: data}
				err = r.run(c.ctx, *address, *yes)
				if r.Servers == nil {
					return err
				}
				if err != nil && !errors.Is(err, errNotAsked) {
					r.Refused = err.Error()
				}
				if *format == "json" {
					if e := c.printJSON(r); e != nil {
						return e
					}
				} else {
					c.printRecovery(r)
				}
				return err
			}
		},
	}
}

var errNotAsked = failf("Nothing was changed. Say -yes to do it.")

// recovery is what the command found and did; it is printed with -format=json.
type recovery struct {
	DataDir   string
	ID        string
	Address   string
	ClusterID string
	LastIndex uint64 // where this server's log ends
	LastTerm  uint64
	Servers   []recoveryServer // the group as this server knows it
	Voters    int
	Answering int // of them, this server with them
	Quorum    int
	Overruled uint64 `json:",omitempty"` // which recovery elsewhere left this server out
	Refused   string `json:",omitempty"`
	Recovered bool
	Keys      int // what the state holds; known when it is recovered
	Nodes     int
	Services  int
}

type recoveryServer struct {
	ID      string
	Address string
	Voter   bool
	Self    bool
	Answers bool
}

// run looks, and recovers if it may and shall.
func (r *recovery) run(ctx context.Context, address string, yes bool) (err error) {
	if err := ownedByUs(r.DataDir); err != nil {
		return err
	}
	marker, err := raftlog.ReadMarker(r.DataDir)
	if err != nil {
		return failf("Error reading the marker: %w", err)
	}
	if marker == nil {
		return failf("Error: there is no Raft state in %s", r.DataDir)
	}
	r.ID, r.ClusterID, r.Overruled = marker.RaftID, marker.ClusterID, marker.Overruled
	var broken error
	st, err := raftlog.Open(r.DataDir, raftlog.Options{RaftID: r.ID, EvenOverruled: true, Fatal: func(err error) { broken = err }})
	if err != nil {
		return failf("Error opening the Raft state: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close(), broken) }()
	standing, err := consensus.Inspect(st)
	if err != nil {
		return failf("Error reading the Raft state: %w", err)
	}
	r.LastIndex, r.LastTerm = standing.LastIndex, standing.LastTerm
	if err := r.survey(ctx, standing, address); err != nil {
		return err
	}
	if !yes {
		return errNotAsked
	}
	store := state.New()
	if err := replay(consensus.Config{
		NodeID: r.ID, FSM: fsm.New(store, slog.New(slog.DiscardHandler)), Stores: st,
		Recoveries: func() uint64 { return store.Cluster().Recoveries },
	}, r.Address); err != nil {
		return failf("Error recovering: %w", err)
	}
	n := store.Counts()
	r.Recovered, r.Keys, r.Nodes, r.Services = true, n.KVEntries, n.Nodes, n.ServiceInstances
	return nil
}

// survey finds who of the group answers, and whether that forbids a recovery.
func (r *recovery) survey(ctx context.Context, standing *consensus.Standing, address string) error {
	r.Servers = make([]recoveryServer, len(standing.Servers))
	var wg sync.WaitGroup
	for i, s := range standing.Servers {
		r.Servers[i] = recoveryServer{ID: s.ID, Address: s.Address, Voter: s.Voter, Self: s.ID == r.ID}
		if s.ID == r.ID {
			r.Address = s.Address
			continue
		}
		wg.Go(func() { r.Servers[i].Answers = answers(ctx, s.Address) })
	}
	wg.Wait()
	for _, s := range r.Servers {
		if !s.Voter {
			continue
		}
		r.Voters++
		if s.Self || s.Answers {
			r.Answering++
		}
	}
	r.Quorum = r.Voters/2 + 1
	if address != "" {
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			return failf("Error: -address %q is not IP:PORT", address)
		}
		r.Address = address
	}
	switch {
	case r.Voters == 1 && r.Answering == 1 && r.Servers[0].Self && len(r.Servers) == 1 && r.Servers[0].Address == r.Address:
		return failf("Error: this server is the whole group already: start it")
	case r.Address == "":
		return failf("Error: server %s is no member of the group it knows; say -address=IP:PORT to make it the whole group all the same", r.ID)
	case r.Voters > 1 && r.Answering >= r.Quorum:
		return failf("Error: %d of %d voters answer or are this server, which is a majority: the group needs no recovery. Start this server; "+
			"if one that answers shall not be part of it any more, stop it first", r.Answering, r.Voters)
	}
	return nil
}

// replay recovers; a log that cannot be applied stops a server, and so this.
func replay(cfg consensus.Config, address string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return consensus.Recover(cfg, []consensus.Server{{ID: cfg.NodeID, Address: address, Voter: true}})
}

// answers is whether something listens at the address of a server: also one that
// hangs does.
func answers(ctx context.Context, address string) bool {
	d := net.Dialer{Timeout: 3 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (c *call) printRecovery(r *recovery) {
	c.printf("Server %s of cluster %q, in %s\nIts log ends at index %d of term %d.\n\nThe group it knows:\n", printable(r.ID), printable(r.ClusterID), r.DataDir, r.LastIndex, r.LastTerm)
	rows := [][]string{{"ID", "Address", "Voter", "Answers"}}
	for _, s := range r.Servers {
		is := "no"
		switch {
		case s.Self:
			is = "this server"
		case s.Answers:
			is = "yes"
		}
		rows = append(rows, []string{printable(s.ID), printable(s.Address), fmt.Sprint(s.Voter), is})
	}
	columns(c.Stdout, rows, nil)
	c.printf("\n%d of %d voters answer or are this server; a majority is %d.\n", r.Answering, r.Voters, r.Quorum)
	if r.Overruled > 0 {
		c.printf("Recovery %d of the group left this server out. To recover it all the same leaves out those who are of that group now.\n", r.Overruled)
	}
	switch {
	case r.Recovered:
		c.printf("\nThis server, %s, is the whole group now. It holds %d keys, %d nodes and %d service instances.\nStart it. The other servers join it as new ones; on those that still have their old state, run first:\n\n    landbridge operator raft forget -yes\n",
			printable(r.Address), r.Keys, r.Nodes, r.Services)
	case r.Address != "" && r.Answering < r.Quorum:
		c.printf("A recovery makes this server, %s, the whole group, with what its log holds.\nThe others are left out: what they acknowledged beyond that is gone, and they do not start any more before they have forgotten.\nThose that do not answer must be off, not only out of reach.\n", printable(r.Address))
	}
}

// ownedByUs refuses to write files as another user than the server's: it could not
// read them afterwards.
func ownedByUs(dir string) error {
	owner, ok := ownerOf(filepath.Join(dir, "raft"))
	if !ok || owner == os.Geteuid() {
		return nil
	}
	return failf("Error: %s is of the user with number %d; run this as that user, or the server cannot read what is written", dir, owner)
}
