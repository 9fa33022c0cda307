// Package aclreplication copies access control from the primary datacenter to
// secondary ones: policies, roles, global auth methods and their binding rules, and
// with acl.enable_token_replication the global tokens. What is local to a
// datacenter never leaves it.
//
//	secondary's leader: Secondary -> replica.Follower -> Remote (the WAN) -> Primary
//	                    replica.Follower -> consensus.Apply -> fsm -> state
//
// Primary answers at the leader of the primary datacenter, from its state and change
// log, and only while it surely leads: what it says is never older than what it
// said. Secondary runs at the leader of a secondary one, keeps its position in the
// replicated state along with the records, and so goes on under the next leader
// where it was. A datacenter without contact to its primary keeps what it has.
//
// What is promised of deletions says package replica. Those that replication made
// are kept for a day, and Undo brings them back.
//
// Methods may be called concurrently; Run has one caller at a time. Outside: who may
// ask (forwarding/endpoint), and how the primary is reached (Remote).
package aclreplication
