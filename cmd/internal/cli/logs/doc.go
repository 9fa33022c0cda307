// Package logs is where an agent's log goes: an slog.Handler that writes lines
// as tools know them,
//
//	2026-11-22T20:22:11.322Z [WARN]  agent: message: key=value
//
// or JSON objects, to standard output and to a file that rotates, and gives
// copies to those who follow it (`landbridge monitor`) at levels of their own.
//
// A Log is safe for concurrent use. Lines are written whole, in the order of
// their records; a follower that does not keep up loses lines and never delays
// the agent. What a record costs when nobody wants its level is one atomic load.
package logs
