package main

import (
	"fmt"
	"reflect"
	"testing"
)

func testNode(name string, server bool) *node {
	return &node{name: name, server: server, ip: "10.77.2.11", dir: "/d"}
}

func testSite() site {
	return site{dc: "dc2", servers: 2, clients: 1, address: func(i int) string { return fmt.Sprintf("10.77.2.%d", 11+i) }}
}

func TestConfigOfClusters(t *testing.T) {
	s := testSite()
	c := s.config(ours, testNode("dc2-server-1", true))
	for key, want := range map[string]any{
		"datacenter": "dc2", "node_name": "dc2-server-1", "server": true, "bootstrap_expect": 2, "bind_addr": "10.77.2.11",
		"data_dir": "/d/data", "retry_join": []string{"10.77.2.11", "10.77.2.12"},
		"ports": nil, "client_addr": nil, "performance": nil, "encrypt": nil, "acl": nil, "retry_join_wan": nil,
	} {
		if got := c[key]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	s.loopback, s.fast = true, true
	c = s.config(ours, testNode("dc2-client-1", false))
	for key, want := range map[string]any{
		"server": false, "bootstrap_expect": nil, "client_addr": "10.77.2.11", "retry_join": []string{"10.77.2.11:28301", "10.77.2.12:28301"},
		"performance": map[string]any{"raft_multiplier": 1},
	} {
		if got := c[key]; !reflect.DeepEqual(got, want) {
			t.Errorf("on loopback, tuned: %s is %v, want %v", key, got, want)
		}
	}
}

// TestConfigOfFederations: servers alone join others, all share the gossip key, and
// a key that only landbridge knows goes to no other binary.
func TestConfigOfFederations(t *testing.T) {
	s := testSite()
	s.federated, s.joinWAN, s.acl = true, []string{"10.77.1.11"}, true
	server, client := s.config(ours, testNode("s", true)), s.config(ours, testNode("c", false))
	if server["encrypt"] != gossipKey || client["encrypt"] != gossipKey {
		t.Error("an agent without the gossip key")
	}
	if !reflect.DeepEqual(server["retry_join_wan"], s.joinWAN) || client["retry_join_wan"] != nil {
		t.Errorf("retry_join_wan of a server %v, of a client agent %v", server["retry_join_wan"], client["retry_join_wan"])
	}
	if want := map[string]any{"enroll_by_key": true}; !reflect.DeepEqual(server["federation"], want) {
		t.Errorf("federation is %v, want %v", server["federation"], want)
	}
	if c := s.config(consul, testNode("s", true)); c["federation"] != nil {
		t.Errorf("consul gets federation %v", c["federation"])
	}
	tokens := func(c map[string]any) map[string]any { return c["acl"].(map[string]any)["tokens"].(map[string]any) }
	if want := map[string]any{"agent": managementToken, "replication": managementToken}; !reflect.DeepEqual(tokens(server), want) {
		t.Errorf("tokens of the secondary %v", tokens(server))
	}
	s.dc = "dc1"
	if c := s.config(ours, testNode("s", true)); tokens(c)["initial_management"] != managementToken || tokens(c)["replication"] != nil {
		t.Errorf("tokens of the primary %v", tokens(c))
	}
	s.acl = false
	if c := s.config(ours, testNode("s", true)); c["federation"] != nil || c["primary_datacenter"] != nil {
		t.Error("settings of access control without it")
	}
}
