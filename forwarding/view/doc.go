// Package view keeps answers this agent is asked for again and again, and shares
// calls under way. It stands between the front ends and the dispatcher:
//
//	dnsapi  -> Set.Follow -> a view, or Set.Do
//	httpapi -> Set.Cached -> a view (?cached), or what is kept of the last fetch
//	httpapi -> Set.Do     -> joins a call under way, or the dispatcher
//	httpapi -> Set.Bounded -> Set.Do, or the last good reply while the datacenter is away
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
//     it has. If the new server stays behind, it asks the leader, and follows it for
//     a while: the server would not tell of what it misses.
//   - While no server answers, a view answers with its age, as far as the reader
//     allows: max_stale, and for DNS only for our own datacenter. Servers are asked
//     again with growing, jittered pauses; the first view that gets through wakes
//     the others.
//   - Follow passes on what has no view (a prepared query, an address), and while no
//     server answers gives the last reply to it, as old as max_stale allows.
//   - A view that nobody used for a while stops following and keeps its last answer;
//     after three days, or when there are too many views or bytes, it is forgotten,
//     the longest unused first. One that a server refuses for good (a token that
//     was deleted, a permission that was taken away) is forgotten at once.
//   - Nothing is filtered here. The key of a view holds the token byte for byte.
//   - Stale and blocking reads that are under way share one call; default and
//     consistent reads, and writes, are passed on and never join a call already
//     sent. Whoever leaves a shared call leaves the others undisturbed.
//
// Bounded (?stale-if-error, and for DNS dns_config.stale_if_error) promises besides:
//
//   - An older answer is given only when a call failed because nobody answered it or
//     there was no leader for it, and never when it is older than its reader allows:
//     its age counts from when the server that gave it was in touch with its leader.
//   - It is the reply to the same question of the same token, byte for byte. What a
//     datacenter refuses is forgotten at once, and Config.Resolve has a word before
//     it is given.
//   - A datacenter that is away is looked at in the background, by one goroutine:
//     reads that have an older answer are not held up by it, and go there again as
//     soon as it has a leader. The beginning and the end are logged once each.
//
// On a server, reads of its own datacenter are answered from its own state and no
// copy is made of it; only requests for other datacenters have views.
//
// All methods may be called concurrently. Set.Stop ends the goroutines.
//
// Outside: which server is asked, and how often one request tries (package
// forwarding); the headers of ?cached (federation/httpapi).
package view
