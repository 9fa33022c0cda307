// Package view keeps answers this agent is asked for again and again, and shares
// calls under way. It stands between the front ends and the dispatcher:
//
//	dnsapi  -> Set.Follow -> a view, or Set.Do
//	httpapi -> Set.Cached -> a view (?cached), or what is kept of the last fetch
//	httpapi -> Set.Do     -> joins a call under way, or the dispatcher
//
// A view is the answer to one question of one token. It is filled by one fetch and
// then follows the servers by a blocking query, in one goroutine that the Set owns.
// What it answers is the very same rpc.Response until the answer changes, and the
// same Body as long as its bytes stay the same, so whoever prepares something from
// a body can key it by the body's identity. A hit allocates nothing.
//
// # Promises
//
//   - What a view answers is a state that the servers had, and no older than its age
//     and LastContact say. While the blocking query waits at a server that is there,
//     the age is 0; when that server does not answer any more it counts from a
//     second before that was noticed. A server that froze is noticed by rpc's pings.
//   - A view never goes back: after a change of server it takes nothing older than
//     it has, and asks the leader if the new server stays behind.
//   - While no server answers, a view answers with its age, as far as the reader
//     allows: max_stale, and for DNS only for our own datacenter. Servers are asked
//     again with growing, jittered pauses; the first view that gets through wakes
//     the others.
//   - A view that nobody used for a while stops following and keeps its last answer;
//     after three days, or when there are too many views or bytes, it is forgotten,
//     the longest unused first. One that a server refuses for good (a token that
//     was deleted, a permission that was taken away) is forgotten at once.
//   - Nothing is filtered here. The key of a view holds the token byte for byte.
//   - Stale and blocking reads that are under way share one call; default and
//     consistent reads, and writes, are passed on and never join a call already
//     sent. Whoever leaves a shared call leaves the others undisturbed.
//
// On a server, reads of its own datacenter are answered from its own state and no
// copy is made of it; only requests for other datacenters have views.
//
// All methods may be called concurrently. Set.Stop ends the goroutines.
//
// Outside: which server is asked, and how often one request tries (package
// forwarding); the headers of ?cached (federation/httpapi).
package view
