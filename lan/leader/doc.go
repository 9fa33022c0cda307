// Package leader does what only a datacenter's leader may: it turns members of
// the LAN pool into nodes of the catalog and into servers of the Raft group,
// gives the cluster its id, ends sessions that nobody renews, makes the built-in ACL
// records and deletes expired tokens, runs raft-autopilot,
// writes the network coordinates that agents tell it, and runs the tasks that other
// parts hand in. It also holds what comes before the first leader: the Bootstrapper.
//
// It promises: the catalog follows the members within one Raft write of an
// event, and whatever was missed within a minute; only differences are written,
// so a pass over an unchanged cluster writes nothing, and may be repeated; work
// begun under one leadership ends before the next one's begins, and is cancelled
// when leadership is lost. Tasks run in the order given, each until it succeeds.
//
// A session ends between one and two times to live after its last renewal, one
// after a change of leader: renewals are not in the log.
//
// Bootstrap makes at most one cluster: the server with the lowest id does it, and
// only after every other server it knows has answered that it belongs to none,
// and promised to let nobody else bootstrap meanwhile.
//
// Rivals, which every server runs, finds out that an operator recovered the Raft
// group without this server: it ends then, unless its group has worked for long.
//
// Autopilot takes votes away only as far as that lets more of the others fail.
//
// Outside: how members are known (Config.Members), how peers are asked
// (Config.ServerStatus), and what a task does. All methods may be called
// concurrently.
package leader
