package node

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"

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
// services and checks, watches, limits, DNS settings, snapshot settings, node metadata, the
// enrolment rule, certificates. On an error the old settings stay. What else differs waits for a
// restart; who reads the files says so.
func (n *Node) Reload(context.Context) error {
	if n.ready.Load() { // else READY=1 would come too early
		n.notify(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
	}
	err := n.reload()
	n.refused.Store(firstLine(err))
	if n.ready.Load() {
		n.notify(daemon.SdNotifyReady, n.state())
	}
	return err
}

// firstLine is an error for a place that has room for one line; nil for none.
func firstLine(err error) *string {
	if err == nil {
		return nil
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 200 {
		line = strings.ToValidUTF8(line[:200], "") + "..."
	}
	return &line
}

func (n *Node) reload() error {
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
	if err := n.watches.Replace(next.Watches); err != nil {
		return err
	}
	n.tokens.reload(next.ACL.Tokens)
	n.guard.Store(next.ACL.Guard)
	n.agent.DiscardCheckOutput(next.DiscardCheckOutput)
	n.http.Reload(next.httpReloadable())
	n.dns.Reload(next.DNS)
	n.views.Reload(next.viewLimits())
	n.dispatcher.Reload(next.callLimits())
	n.maxConns.Store(int64(next.Limits.RPCMaxConnsPerClient))
	if n.srv != nil {
		if err := n.srv.raft.ReloadSnapshots(next.snapshots()); err != nil {
			return err
		}
		n.srv.limiter.Reload(next.Limits.Requests)
		n.srv.authority.SetEnrollByKey(next.EnrollByKey)
		n.srv.keys.reload(next.KVReplication)
		if err := n.srv.authority.ReloadOperator(next.OperatorCerts); err != nil {
			return err
		}
	}
	n.setMeta(next.NodeMeta)
	if next.Reloaded != nil {
		next.Reloaded()
	}
	n.log.Info("configuration reloaded", "services", len(next.Services), "checks", len(next.Checks), "watches", len(next.Watches))
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
