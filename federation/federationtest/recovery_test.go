package federationtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
	"landbridge/store/raftlog"
)

// recover writes the file that makes a host, which does not run, the whole Raft
// group when it starts.
func recover(f *Federation, h *Host, id, address string) {
	f.T.Helper()
	f.Must(os.WriteFile(filepath.Join(h.Dir(), "raft", "peers.json"), fmt.Appendf(nil, `[{"id":%q,"address":%q}]`, id, address), 0o600))
}

func keyIndex(f *Federation, h *Host, key string) (index int) {
	f.T.Helper()
	r, err := h.Call(context.Background(), http.MethodGet, "/v1/kv/"+key, "")
	f.Must(err)
	_, err = fmt.Sscan(r.Header.Get("X-Consul-Index"), &index)
	f.Must(err)
	return index
}

// Two of three servers burn. The third, which is a little behind, is made the whole
// group: it has all that it had acknowledged, nobody's index goes back though the
// lost ones had given out higher ones, and two new machines join it.
func TestRecoverySurvivesTheMajority(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		survivor := east.Followers()[0]
		lost := Group{east.Leader(), east.Followers()[1]}
		for i := range 20 {
			f.Must(lost[0].Put(fmt.Sprintf("k%d", i), fmt.Sprint(i)))
		}
		f.Await(time.Second, "the survivor has them", func() error { return survivor.Expect("k19", "19", "stale") })
		group, err := survivor.Raft()
		f.Must(err)
		before := cluster(f, survivor)
		f.Partition(survivor, lost)
		f.Must(lost[0].Put("unseen", "x"))
		index := keyIndex(f, lost[0], "unseen")
		lost[0].Crash()
		lost[1].Crash()
		survivor.Stop()
		f.Heal(survivor, lost)

		self := group[survivor.Name]
		recover(f, survivor, self.ID, self.Address)
		survivor.Restart()
		f.Await(3*time.Second, "the survivor leads", func() error { return survivor.Put("after", "1") })
		for i := range 20 {
			f.Must(survivor.Expect(fmt.Sprintf("k%d", i), fmt.Sprint(i), "consistent"))
		}
		// A reader who saw the lost write is told at once that there is something new.
		start := f.Now()
		r, err := survivor.Call(context.Background(), http.MethodGet, fmt.Sprintf("/v1/kv/unseen?index=%d&wait=30s", index), "")
		f.Must(err)
		if now := keyIndex(f, survivor, "k0"); r.Code != 404 || f.Now()-start > time.Second || now <= index {
			t.Errorf("a reader at index %d waited %s for %d; k0 is at %d now", index, f.Now()-start, r.Code, now)
		}
		after := cluster(f, survivor)
		if after.ID != before.ID || after.Recoveries != 1 {
			t.Errorf("the cluster was %+v and is %+v, want the same id and one recovery", before, after)
		}

		for _, h := range lost {
			h.Wipe()
			h.Restart()
		}
		f.Await(40*time.Second, "the new servers vote", func() error { return errors.Join(votes(survivor, lost[0]), votes(survivor, lost[1])) })
		for _, h := range lost {
			f.Must(h.Expect("k7", "7", "stale"))
			f.Must(h.Expect("after", "1"))
		}
		// A second start is no second recovery, and needs nobody.
		survivor.Stop()
		f.Await(3*time.Second, "the new ones go on", func() error { return lost[0].Put("after", "2") })
		survivor.Restart()
		f.Await(5*time.Second, "the survivor follows", func() error { return survivor.Expect("after", "2") })
		if c := cluster(f, survivor); c != after {
			t.Errorf("after a restart the cluster is %+v, want %+v", c, after)
		}
	}, DC("east", 3))
}

// marked is what a server's folder says of its cluster.
type marked struct {
	ID         string `json:"cluster_id"`
	Recoveries int    `json:"recoveries"`
}

func cluster(f *Federation, h *Host) (m marked) {
	f.T.Helper()
	time.Sleep(2 * time.Second) // it is written once a second
	b, err := os.ReadFile(filepath.Join(h.Dir(), "raft.marker"))
	f.Must(err)
	f.Must(json.Unmarshal(b, &m))
	return m
}

// The machines thought to be gone are switched on again, with a majority of the old
// group. They end before they write anything, and start no more.
func TestThePastComesBack(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		survivor := east.Followers()[0]
		past := Group{east.Leader(), east.Followers()[1]}
		group, err := survivor.Raft()
		f.Must(err)
		cluster(f, survivor)
		for _, h := range east.Servers() {
			h.Crash()
		}
		recover(f, survivor, group[survivor.Name].ID, group[survivor.Name].Address)
		survivor.Restart()
		f.Await(5*time.Second, "the survivor leads", func() error { return survivor.Put("k", "present") })
		ends := map[*Host]func(time.Duration) error{}
		for _, h := range past {
			h.Restart()
			ends[h] = h.Doomed()
		}
		for h, end := range ends {
			if err := end(2 * time.Second); !errors.Is(err, raftlog.ErrOverruled) {
				t.Errorf("%s ended with %v, want that it was overruled", h.Name, err)
			}
			if err := h.StartRefused(); !errors.Is(err, raftlog.ErrOverruled) || !strings.Contains(err.Error(), "operator raft forget") {
				t.Errorf("another start of %s: %v", h.Name, err)
			}
		}
		f.Must(survivor.Expect("k", "present", "consistent"))
		group, err = survivor.Raft()
		if err != nil || len(group) != 1 {
			t.Errorf("the group is %v, %v, want the survivor alone", group, err)
		}
		past[0].Wipe()
		past[0].Restart()
		f.Await(40*time.Second, "it joins as a new server", func() error { return votes(survivor, past[0]) })
	}, DC("east", 3))
}

// A part of the group is recovered while the majority works, out of its sight. When
// they see each other again nothing is destroyed: nobody is taken in, the majority
// goes on, and both count their rivals: an operator must choose.
func TestRecoveryByMistake(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		minority := east.Followers()[0]
		majority := Group{east.Leader(), east.Followers()[1]}
		group, err := minority.Raft()
		f.Must(err)
		cluster(f, minority)
		time.Sleep(time.Minute)
		f.Partition(minority, majority)
		minority.Stop()
		recover(f, minority, group[minority.Name].ID, group[minority.Name].Address)
		minority.Restart()
		f.Await(5*time.Second, "both write", func() error {
			return errors.Join(minority.Put("k", "minority"), majority[0].Put("k", "majority"))
		})
		time.Sleep(time.Minute)
		f.Heal(minority, majority)
		time.Sleep(3 * time.Minute)
		f.Must(majority[0].Expect("k", "majority", "consistent"))
		f.Must(minority.Expect("k", "minority", "consistent"))
		for h, want := range map[*Host]string{majority[0]: "1", majority[1]: "1", minority: "2"} {
			r, err := h.Call(context.Background(), http.MethodGet, "/v1/agent/metrics?format=prometheus", "")
			f.Must(err)
			if !strings.Contains(r.Body, "\nlandbridge_leader_rival_servers "+want+"\n") {
				t.Errorf("%s does not count %s rivals", h.Name, want)
			}
		}
		if group, err = minority.Raft(); err != nil || len(group) != 1 {
			t.Errorf("the recovered group is %v, %v, want one server", group, err)
		}
	}, DC("east", 3))
}
