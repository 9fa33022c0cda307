// Package node assembles one landbridge process, server or client agent, from
// the packages below it: New, Start, Reload, Leave, Stop, or Run for all of it.
//
// Parts are built in the order of their dependencies, and each step pushes its
// named stop on a stack; Stop takes them off last-in-first-out under one
// time-out, and a Start that fails half-way uses the same stack. The order and
// its reasons stand in start.go.
//
// A node keeps nothing in package variables: many run in one process in tests,
// on a simulated network (Config.Network).
package node
