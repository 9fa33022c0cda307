package cli

import (
	"fmt"
	"strings"
	"testing"

	"landbridge/cmd/internal/client"
	"landbridge/store"
)

// upgradeGroup is the facts about n healthy servers s1..sn of this release, led by s1.
func upgradeGroup(n int) *upgradeFacts {
	f := &upgradeFacts{}
	f.self.Config.Datacenter, f.self.Config.NodeName, f.self.Config.Server = "eu", "s2", true
	f.pilot.Servers = map[string]client.AutopilotServer{}
	f.pilotConf.MaxTrailingLogs = 250
	for i := 1; i <= n; i++ {
		id := fmt.Sprint("id", i)
		f.members = append(f.members, client.Member{Name: fmt.Sprint("s", i), Addr: fmt.Sprint("10.0.0.", i), Status: 1, Tags: map[string]string{
			"role": "consul", "id": id, "build": "1.21.4:" + Release, "raft_vsn": "3",
			"lb_rpc": fmt.Sprint(store.WireVersion), "lb_cmd": fmt.Sprint(store.CommandVersion), "lb_disk": fmt.Sprint(store.DiskVersion),
		}})
		f.raft.Servers = append(f.raft.Servers, client.RaftServer{ID: id, Node: fmt.Sprint("s", i), Leader: i == 1, Voter: true, LastIndex: 1000})
		f.pilot.Servers[id] = client.AutopilotServer{Healthy: true}
	}
	f.members = append(f.members, client.Member{Name: "client", Status: 1, Tags: map[string]string{"role": "node"}})
	return f
}

func TestJudgeUpgrade(t *testing.T) {
	sick := func(f *upgradeFacts, id string) { f.pilot.Servers[id] = client.AutopilotServer{} }
	for _, c := range []struct {
		name    string
		servers int
		node    string
		change  func(f *upgradeFacts)
		fails   string // the names of the checks that fail
		text    string // part of what the first of those says
	}{
		{name: "three healthy servers", servers: 3},
		{name: "the leader of three", servers: 3, node: "s1"},
		{name: "a single server", servers: 1, node: "s1", fails: "quorum", text: "without s1 0 voters of 1 would be healthy, 1 are needed"},
		{name: "two servers", servers: 2, fails: "quorum", text: "1 voter of 2"},
		{name: "another one is sick", servers: 3, change: func(f *upgradeFacts) { sick(f, "id3") }, fails: "quorum health"},
		{name: "another one of five is sick", servers: 5, change: func(f *upgradeFacts) { sick(f, "id3") }, fails: "health", text: "s3 (gossip: alive)"},
		{name: "it is the sick one", servers: 3, node: "s3", change: func(f *upgradeFacts) { sick(f, "id3"); f.raft.Servers[2].LastIndex = 1 }},
		{name: "another one lags", servers: 3, change: func(f *upgradeFacts) { f.raft.Servers[2].LastIndex = 749 }, fails: "behind", text: "s3 by 251"},
		{name: "it lags as much as it may", servers: 3, change: func(f *upgradeFacts) { f.raft.Servers[2].LastIndex = 750 }},
		{name: "no leader", servers: 3, change: func(f *upgradeFacts) {
			f.leaderErr = fmt.Errorf("No cluster leader")
			f.raft, f.pilot = client.RaftConfiguration{}, client.AutopilotState{}
		}, fails: "leader quorum health", text: "no leader answers: No cluster leader"},
		{name: "a server that gossip does not know", servers: 3, change: func(f *upgradeFacts) { f.members = f.members[:2]; sick(f, "id3") },
			fails: "quorum health raft protocol versions"},
		{name: "another raft protocol", servers: 3, change: func(f *upgradeFacts) { f.members[2].Tags["raft_vsn"] = "2" }, fails: "raft protocol", text: `s3 has "2"`},
		{name: "a release that tells no versions", servers: 3, change: func(f *upgradeFacts) { delete(f.members[2].Tags, "lb_rpc") }, fails: "versions", text: "s3 does not say"},
		{name: "an earlier release without a version of its disk", servers: 3, change: func(f *upgradeFacts) { delete(f.members[2].Tags, "lb_disk") }},
		{name: "a newer wire", servers: 3, change: func(f *upgradeFacts) { f.members[2].Tags["lb_rpc"] = fmt.Sprint(store.WireVersion + 1) }},
		{name: "a wire two versions ahead", servers: 3, change: func(f *upgradeFacts) { f.members[2].Tags["lb_rpc"] = fmt.Sprint(store.WireVersion + 2) }, fails: "versions", text: "install one in between"},
		{name: "a newer disk", servers: 3, change: func(f *upgradeFacts) { f.members[2].Tags["lb_disk"] = fmt.Sprint(store.DiskVersion + 1) }, fails: "versions", text: "reads up to"},
		{name: "newer commands", servers: 3, change: func(f *upgradeFacts) { f.members[2].Tags["lb_cmd"] = fmt.Sprint(store.CommandVersion + 1) }, fails: "versions", text: "would stop"},
		{name: "one that left", servers: 4, change: func(f *upgradeFacts) {
			f.members[3].Status = 3
			f.raft.Servers = f.raft.Servers[:3]
			delete(f.pilot.Servers, "id4")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := upgradeGroup(c.servers)
			if c.change != nil {
				c.change(f)
			}
			r, err := judgeUpgrade(f, c.node)
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			var first string
			for _, k := range r.Checks {
				if !k.OK {
					failed = append(failed, k.Name)
					if first == "" {
						first = k.Text
					}
				}
			}
			if got := strings.Join(failed, " "); got != c.fails || r.Safe != (c.fails == "") {
				t.Errorf("fails %q, safe %v; want %q", got, r.Safe, c.fails)
			}
			if !strings.Contains(first, c.text) {
				t.Errorf("says %q, want %q in it", first, c.text)
			}
		})
	}
	if _, err := judgeUpgrade(upgradeGroup(3), "s9"); err == nil || !strings.Contains(err.Error(), `node "s9" is not a server of datacenter eu`) {
		t.Errorf("an unknown node: %v", err)
	}
	f := upgradeGroup(3)
	f.self.Config.Server = false
	if _, err := judgeUpgrade(f, ""); err == nil || !strings.Contains(err.Error(), "client agent") {
		t.Errorf("a client agent: %v", err)
	}
	if r, err := judgeUpgrade(f, "s1"); err != nil || !r.Leader || !r.Safe {
		t.Errorf("a server asked about at a client agent: %v %+v", err, r)
	}
}
