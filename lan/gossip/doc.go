// Package gossip is one membership pool: serf over memberlist, with the timings,
// tags, keyring and events landbridge needs. The LAN pool holds all agents of a
// datacenter; wan/gossip builds the pool of all servers from the same Pool, with
// another profile and transport.
//
// What it promises. Members is what this agent believes now; beliefs of two
// agents converge within seconds on a LAN. Status comes from hearsay, so nothing
// may be authorised by it. Events arrive in serf's order; a subscriber that
// falls behind gets one Resync in place of what it missed and reads Members
// again, and never slows the pool down. Members of another datacenter, and a
// taken name under another node id, are refused on joining with an error that
// says so.
//
// With a keyring all LAN traffic is encrypted by its primary key; the keys are
// kept in a JSON file, which wins over Config.Key once it exists, so that a
// rotated key survives a restart with an old configuration.
//
// All methods may be called concurrently between Start and Stop. Before Start
// and after Stop members are empty and operations fail with ErrNotRunning.
// Outside: who is asked to join again and when (federation/node), what members
// mean for the catalog (lan/leader).
package gossip
