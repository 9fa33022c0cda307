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
// Between datacenters (race.go, path.go, probe.go): a random healthy server is
// asked; slow repeatable reads are sent to a second one, within 2 % and what share
// of packets is lost; a server that shows no sign of life leaves the pick, the calls
// that wait on it move, and it returns after an answered probe. When all are silent, or
// none has a leader for longer than a hand-over takes, calls fail at once until a probe
// says otherwise. What waits is bounded per datacenter.
// Dispatcher.Remotes tells it all. docs/decisions/0014 has the reasons.
//
// A Dispatcher is safe for concurrent use. A healthy call runs in its caller's
// goroutine alone; probes, and calls whose connection has to be made, have one each,
// which Stop ends. How peers are
// found and dialed is the business of LAN and WAN, declared here and plugged
// together by federation/node.
package forwarding
