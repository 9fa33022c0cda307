package cli

import (
	"slices"
	"strings"
)

// table is all commands, in the order they are listed.
type table struct {
	commands []*command
	groups   []*group
}

func newTable() *table {
	t := &table{
		groups: []*group{
			{"acl", "Look at access control and change it",
				"Tokens say who may do what: by policies, roles and identities. -token, -token-file\nor CONSUL_HTTP_TOKEN is the token that a command itself uses."},
			{"acl auth-method", "Manage who else says who may log in", "An auth method trusts the tokens of somebody else."},
			{"acl binding-rule", "Manage what a login gives", "Binding rules say what who logs in with an auth method gets."},
			{"acl policy", "Manage policies", "A policy is a set of rules with a name."},
			{"acl role", "Manage roles", "A role is a set of policies and identities with a name."},
			{"acl templated-policy", "Look at templated policies", "Templated policies are rules with a variable, for common cases."},
			{"acl token", "Manage tokens", "A token's secret lets who knows it do what the token may."},
			{"acl replication", "Look at the copy of the primary's ACLs, approve and undo deletions",
				"A secondary datacenter copies ACLs from the primary one, and deletes nothing only\nbecause a primary that was restored or rebuilt does not have it."},
			{"catalog", "Ask the catalog for datacenters, nodes and services",
				"The catalog is what the servers of a datacenter know of its nodes and services."},
			{"kv", "Read and write the key/value store",
				"Keys are strings, values are bytes. Each datacenter has a store of its own:\n-datacenter reads and writes another's."},
			{"kv replication", "Look at the copies of other datacenters' keys, and approve deletions",
				"Servers copy key prefixes of other datacenters, one way (kv_replication). Deletions\nthat look like a loss wait until somebody approves them."},
			{"operator", "Tools for those who run the servers",
				"Commands that look into the servers, or repair them."},
			{"operator autopilot", "Look at autopilot, and change its rules",
				"Autopilot judges the servers of a datacenter, gives new ones a vote when they are\nstable and removes dead ones when there is a replacement."},
			{"operator raft", "Look at the Raft group, change it, or repair it",
				"The servers of a datacenter keep its state together, by the Raft protocol."},
			{"operator usage", "Count what datacenters hold",
				"How many services, instances and nodes there are."},
			{"services", "Register and deregister services of an agent",
				"Services belong to the agent they are registered with: it keeps them in the\ncatalog and runs their checks."},
			{"snapshot", "Save, restore and look into the state of a datacenter",
				"A snapshot is the state of all servers of a datacenter at one moment, in a file."},
			{"tls", "Make certificates for agents",
				"Certificates for TLS between agents and for HTTPS, where no other authority is\nat hand."},
			{"tls ca", "Make a certificate authority", "The authority whose certificates agents trust."},
			{"tls cert", "Make certificates signed by the authority", "Certificates for servers, clients and command lines."},
			{"federation", "Change the primary datacenter",
				"The primary datacenter owns ACLs, evictions and certificates. Another one can take\nits place."},
			{"wan ca", "Look at the certificates between datacenters, and replace them",
				"Servers of different datacenters know each other by certificates that the\nfederation's own authority issues and replaces."},
			{"wan", "Join datacenters and look at the servers that connect them",
				"The servers of all joined datacenters form one pool, the WAN."},
		},
	}
	for _, make := range []func() *command{
		aclAuthMethodCreate, authMethodKind.delete, authMethodKind.listAll, authMethodKind.read, aclAuthMethodUpdate,
		aclBindingRuleCreate, bindingRuleKind.delete, bindingRuleKind.listAll, bindingRuleKind.read, aclBindingRuleUpdate,
		aclBootstrap, aclPolicyCreate, policyKind.delete, policyKind.listAll, policyKind.read, aclPolicyUpdate,
		aclRoleCreate, roleKind.delete, roleKind.listAll, roleKind.read, aclRoleUpdate, aclSetAgentToken,
		aclTemplateList, aclTemplatePreview, aclTemplateRead,
		aclTokenClone, aclTokenCreate, aclTokenDelete, aclTokenList, aclTokenRead, aclTokenUpdate,
		aclReplicationApprove, aclReplicationStatus, aclReplicationUndo, kvReplicationApprove, kvReplicationStatus,
		agentCommand, autopilotGetConfig, autopilotSetConfig, autopilotState, catalogDatacenters, catalogNodes, catalogServices, completionCommand, debugCommand, eventCommand, execCommand, federationFollow, federationForget, federationPromote, federationUnseen, forceLeave, importCommand, infoCommand,
		joinCommand, keygenCommand, keyringCommand, kvDelete, kvExport, kvGet, kvImport, kvPut, leaveCommand, lockCommand, loginCommand, logoutCommand, maintCommand, membersCommand, monitorCommand,
		raftForget, raftListPeers, raftRecover, raftRemovePeer, raftTransferLeader, reloadCommand, rttCommand, servicesDeregister, servicesRegister,
		snapshotDecode, snapshotInspect, snapshotRestore, snapshotSave, tlsCACreate, tlsCertCreate, topCommand, upgradeCheck, usageInstances,
		validateCommand, versionCommand, wanCAPrune, wanCARotate, wanCAStatus, wanEvict, wanForceLeave, wanJoin, wanLeave, wanMembers, wanStatus, wanToken, watchCommand,
	} {
		t.commands = append(t.commands, make())
	}
	return t
}

// find returns the command that the first of words name, and how many they are;
// without one, how many of them name a group.
func (t *table) find(words []string) (*command, int) {
	for n := len(words); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		for _, c := range t.commands {
			if c.name == name {
				return c, n
			}
		}
	}
	for n := len(words); n > 0; n-- {
		if t.group(words[:n]) != nil {
			return nil, n
		}
	}
	return nil, 0
}

func (t *table) group(words []string) *group {
	name := strings.Join(words, " ")
	for _, g := range t.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// words lists what may follow a group's name, sorted; "" is the top.
func (t *table) words(under string) []string {
	var out []string
	add := func(name string) {
		if under != "" {
			var ok bool
			if name, ok = strings.CutPrefix(name, under+" "); !ok {
				return
			}
		}
		if !strings.Contains(name, " ") {
			out = append(out, name)
		}
	}
	for _, c := range t.commands {
		add(c.name)
	}
	for _, g := range t.groups {
		add(g.name)
	}
	slices.Sort(out)
	return out
}

func (t *table) synopsis(name string) string {
	for _, c := range t.commands {
		if c.name == name {
			return c.synopsis
		}
	}
	return t.group(strings.Fields(name)).synopsis
}

// absent says why a command of the interface is not there.
func (t *table) absent(name string) (why string, ok bool) {
	switch name {
	case "config", "connect", "intention",
		"services export", "services exported-services", "services imported-services":
		return "this command is not built yet.", true
	case "peering", "resource", "troubleshoot":
		return "not supported: this part of the interface is outside of what landbridge does.", true
	}
	return "", false
}
