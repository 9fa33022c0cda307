package node

import (
	"context"
	"fmt"
	"reflect"

	"landbridge/lan/agent"
	"landbridge/store"
	"landbridge/store/consensus"
)

// loadDefinitions gives the agent the services and checks from files.
func (n *Node) loadDefinitions(cfg *Config) error {
	services := make([]*agent.ServiceDefinition, len(cfg.Services))
	for i := range cfg.Services {
		services[i] = &cfg.Services[i]
	}
	checks := make([]*agent.CheckDefinition, len(cfg.Checks))
	for i := range cfg.Checks {
		checks[i] = &cfg.Checks[i]
	}
	return n.agent.ReloadDefinitions(services, checks)
}

// Reload reads the configuration again and applies what may change while running:
// services and checks, limits, DNS settings, snapshot settings, node metadata, the
// enrolment rule and the log level. On an error the old settings stay. Changes of
// other keys are logged and wait for a restart.
func (n *Node) Reload(context.Context) error {
	if n.cfg.Reload == nil {
		return store.Errorf(store.KindInvalid, "this agent was started without configuration files to read again")
	}
	next, err := n.cfg.Reload()
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	next.setDefaults()
	n.leaving.Lock() // one reload at a time, and none during a leave
	defer n.leaving.Unlock()
	if err := n.loadDefinitions(next); err != nil {
		return err
	}
	n.http.Reload(next.httpReloadable())
	n.dns.Reload(next.DNS.settings())
	if n.srv != nil {
		if err := n.srv.raft.ReloadSnapshots(next.snapshots()); err != nil {
			return err
		}
		n.srv.authority.SetEnrollByKey(next.EnrollByKey)
		if err := n.srv.authority.ReloadOperator(); err != nil {
			return err
		}
	}
	for _, key := range restartKeys(&n.cfg, next) {
		n.log.Warn("changed setting needs a restart", "key", key)
	}
	n.setMeta(next.NodeMeta)
	n.log.Info("configuration reloaded", "services", len(next.Services), "checks", len(next.Checks))
	return nil
}

func (c *Config) snapshots() consensus.SnapshotConfig {
	return consensus.SnapshotConfig{
		Threshold: uint64(c.RaftSnapshotThreshold), Interval: c.RaftSnapshotInterval, TrailingLogs: uint64(c.RaftTrailingLogs),
	}
}

// setMeta replaces the node's metadata in the catalog.
func (n *Node) setMeta(meta map[string]string) {
	if reflect.DeepEqual(meta, *n.meta.Load()) {
		return
	}
	n.meta.Store(&meta)
	n.agent.NodeChanged()
}

// restartKeys names the settings that differ and cannot be changed while running.
func restartKeys(old, next *Config) (keys []string) {
	for _, c := range []struct {
		key     string
		changed bool
	}{
		{"node_name", old.NodeName != next.NodeName},
		{"datacenter", old.Datacenter != next.Datacenter},
		{"primary_datacenter", old.Primary != next.Primary},
		{"server", old.Server != next.Server},
		{"data_dir", old.DataDir != next.DataDir},
		{"bind_addr", old.BindAddr != next.BindAddr},
		{"advertise_addr", old.AdvertiseLAN != next.AdvertiseLAN},
		{"advertise_addr_wan", old.AdvertiseWAN != next.AdvertiseWAN},
		{"ports", old.Ports != next.Ports},
		{"addresses", !reflect.DeepEqual(old.HTTPAddrs, next.HTTPAddrs) || !reflect.DeepEqual(old.HTTPSAddrs, next.HTTPSAddrs) || !reflect.DeepEqual(old.DNSAddrs, next.DNSAddrs)},
		{"domain", old.Domain != next.Domain || old.AltDomain != next.AltDomain},
		{"encrypt", string(old.EncryptKey) != string(next.EncryptKey)},
		{"federation.enabled", old.FederationOff != next.FederationOff},
		{"performance.raft_multiplier", old.RaftMultiplier != next.RaftMultiplier},
		{"gossip_lan", old.GossipLAN != next.GossipLAN},
		{"gossip_wan", old.GossipWAN != next.GossipWAN},
	} {
		if c.changed {
			keys = append(keys, c.key)
		}
	}
	return keys
}
