// Package agent keeps what one machine runs: its services, its checks and
// their health, and makes the datacenter's catalog say the same.
//
// It promises that the agent is the authority for its own node: whatever the
// order of registrations, removals, failed calls and restarts, the catalog's
// record of this node ends equal to the agent's (anti-entropy). A change is
// pushed at once; AddService, RemoveService and their like return when the
// catalog holds it, or after RegisterWait with the change kept locally and
// pushed later. What only the catalog says (drift) is found by a full
// comparison, every one to two minutes in a small cluster and less often in a
// larger one.
//
// Definitions registered through the API are on disk before the call returns: in
// a journal, and within seconds in files of their own (services/, checks/ and
// checks/state/ under DataDir); definitions from files are handed in at start and
// at each reload.
//
// It also remembers the user events that concern this machine (Events: the newest
// 256, in memory only), and runs what users send to it where that is allowed
// (Exec).
//
// All methods may be called concurrently. Records handed out are immutable.
//
// Outside: how the catalog is reached (the Registrar), who the node is
// (Config.Node), access control, and the HTTP form of requests and replies,
// except for the two JSON shapes that have no other home: the body of a
// registration and Service.
package agent
