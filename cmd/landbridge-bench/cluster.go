package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// cluster is the agents of one datacenter.
type cluster struct {
	t       *trial
	dc      string
	servers []*node
	clients []*node // client agents
}

// site is what the agents of a datacenter have in common, and where they are.
type site struct {
	dc               string
	servers, clients int
	address          func(i int) string // of agent i, servers first
	loopback         bool               // all on one host: fixed unusual ports, HTTP and DNS on the agent's address
	host             func(i int) *host  // on an emulated network
	fast             bool               // performance.raft_multiplier = 1
	federated        bool               // takes part in a federation: encrypted gossip
	joinWAN          []string           // addresses of servers of other datacenters to join at the start
	acl              bool               // access control; dc1 is primary
}

// Ports of agents on loopback, apart from those that agents usually have.
const (
	portHTTP = 28500
	portDNS  = 28600
	portRPC  = 28300
	portLAN  = 28301
	portWAN  = 28302
)

// Secrets of agents that live for minutes in networks of their own.
const (
	managementToken = "6f1f6b1e-7c0e-4c55-9c8e-2f6a6a2f4d10"
	gossipKey       = "bGFuZGJyaWRnZS1iZW5jaC1zaGFyZWQta2V5LTMyYnk="
)

// config is the configuration of agent i. All that it does not name is the
// binary's default: limits of connections are named because all load comes from one
// address, and the gossip key because binaries may refuse to federate strangers.
func (s site) config(b *binary, n *node) map[string]any {
	var join []string
	for i := range s.servers {
		addr := s.address(i)
		if s.loopback {
			addr = fmt.Sprintf("%s:%d", addr, portLAN)
		}
		join = append(join, addr)
	}
	c := map[string]any{
		"datacenter": s.dc, "node_name": n.name, "server": n.server,
		"data_dir": filepath.Join(n.dir, "data"), "bind_addr": n.ip,
		"retry_join": join, "retry_interval": "1s",
		"log_level": "warn", "disable_update_check": true, "leave_on_terminate": false,
		"limits": map[string]any{"http_max_conns_per_client": 15000, "rpc_max_conns_per_client": 10000},
	}
	if s.loopback {
		c["client_addr"] = n.ip
		c["ports"] = map[string]any{"http": portHTTP, "dns": portDNS, "server": portRPC, "serf_lan": portLAN, "serf_wan": portWAN}
	}
	if n.server {
		c["bootstrap_expect"] = s.servers
		if len(s.joinWAN) > 0 {
			c["retry_join_wan"] = s.joinWAN
		}
	}
	if s.fast {
		c["performance"] = map[string]any{"raft_multiplier": 1}
	}
	if s.federated {
		c["encrypt"] = gossipKey
	}
	if s.acl {
		// No default token: the load always sends one.
		tokens := map[string]any{"agent": managementToken}
		if s.dc == "dc1" {
			tokens["initial_management"] = managementToken
		} else {
			tokens["replication"] = managementToken
		}
		c["primary_datacenter"] = "dc1"
		c["acl"] = map[string]any{"enabled": true, "default_policy": "deny", "enable_token_replication": true, "tokens": tokens}
		if b.isLandbridge() { // access control turns enrolment by the gossip key off there; others may refuse the key
			c["federation"] = map[string]any{"enroll_by_key": true}
		}
	}
	return c
}

// newCluster makes the agents of a datacenter; it starts none.
func (t *trial) newCluster(s site) *cluster {
	cl := &cluster{t: t, dc: s.dc}
	for i := range s.servers + s.clients {
		n := &node{t: t, server: i < s.servers, ip: s.address(i)}
		if n.server {
			n.name = fmt.Sprintf("%s-server-%d", s.dc, i+1)
			cl.servers = append(cl.servers, n)
		} else {
			n.name = fmt.Sprintf("%s-client-%d", s.dc, i-s.servers+1)
			cl.clients = append(cl.clients, n)
		}
		n.http, n.dns, n.rpc = "127.0.0.1:8500", "127.0.0.1:8600", n.ip+":8300"
		if s.loopback {
			n.http, n.dns, n.rpc = fmt.Sprintf("%s:%d", n.ip, portHTTP), fmt.Sprintf("%s:%d", n.ip, portDNS), fmt.Sprintf("%s:%d", n.ip, portRPC)
		}
		if s.host != nil {
			n.host = s.host(i)
		}
		if s.acl {
			n.token = managementToken
		}
		t.mu.Lock()
		n.dir = filepath.Join(t.dir, fmt.Sprintf("%d-%s", len(t.nodes)+1, n.name))
		t.nodes = append(t.nodes, n)
		t.mu.Unlock()
		n.conf = s.config(t.binary, n)
		maps.Copy(n.conf, t.options.conf)
	}
	return cl
}

func (cl *cluster) all() []*node { return slices.Concat(cl.servers, cl.clients) }

func start(nodes []*node) {
	for _, n := range nodes {
		n.start()
	}
}

// waitWritable waits until each of the nodes has a leader and takes a write.
func (t *trial) waitWritable(nodes []*node, limit time.Duration) {
	t.check(each(len(nodes), len(nodes), func(_, i int) error {
		return t.until(limit, 5*time.Millisecond, nodes[i].name+" takes writes", nodes[i].writable)
	}), "start")
}

// waitCatalog waits until the catalog holds count nodes.
func (cl *cluster) waitCatalog(count int, limit time.Duration) {
	cl.t.check(cl.t.until(limit, 50*time.Millisecond, fmt.Sprintf("%d nodes in the catalog", count), func() error {
		var nodes []struct{ Node string }
		if err := cl.servers[0].get("/v1/catalog/nodes", &nodes); err != nil {
			return err
		}
		if len(nodes) < count {
			return fmt.Errorf("%d are", len(nodes))
		}
		return nil
	}), cl.dc)
}

// leader waits for a server that is the leader in its own eyes.
func (cl *cluster) leader() (leader *node) {
	cl.t.check(cl.t.until(60*time.Second, 20*time.Millisecond, "a leader", func() error {
		for _, n := range cl.servers {
			if n.alive() && n.leader() == n.rpc {
				leader = n
				return nil
			}
		}
		return errors.New("none")
	}), cl.dc)
	return leader
}

// follower is a living server other than the leader.
func (cl *cluster) follower() *node {
	leader := cl.leader()
	for _, n := range cl.servers {
		if n != leader && n.alive() {
			return n
		}
	}
	cl.t.failf("%s has no follower", cl.dc)
	return nil
}
