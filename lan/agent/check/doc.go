// Package check runs health checks. There is a file for each kind that an agent
// runs by itself: script.go, http.go, tcp.go, udp.go, grpc.go, h2ping.go,
// docker.go, os_service.go; and thresholds.go, which turns a series of results
// into a status.
//
// It promises that a run ends soon after its context does, and that what it
// allocates is bounded by what it received and by the check's limit of output.
// The texts of outputs are those that users of the Consul API know.
//
// A Probe may be run again and again, by one goroutine at a time; between runs it
// holds nothing open. Different probes run side by side; scripts share Slots.
//
// Outside: when checks run, what becomes of results, and the kinds that run
// nothing (ttl, alias, maintenance): package agent has those.
package check
