// Package forwarding decides where a request runs: here, at the leader of this
// datacenter, or at a server of another one. It is the only place that decides:
// front ends hand every request to Dispatcher.Do, and methods declare what they
// need once, in forwarding/rpc's table.
//
//	httpapi | dnsapi -> Do -> here: endpoint -> store
//	                       -> leader: LAN session -> endpoint -> consensus.Apply
//	                       -> other datacenter: WAN session -> a server there -> its Do
//
// Promises: a request is sent again only if it cannot have been applied, or if
// its method is repeatable; nothing waits past its deadline, and where no caller
// set one, the dispatcher does; an error about another datacenter names it, the
// servers tried and how long each took; a loop ends at rpc.MaxHops.
//
// A Dispatcher is safe for concurrent use and starts no goroutines. How peers are
// found and dialed is the business of LAN and WAN, declared here and plugged
// together by federation/node.
package forwarding
