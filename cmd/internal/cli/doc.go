// Package cli is the command line: one file per command and a table of them
// (table.go) from which dispatch, help and shell completion are made.
//
// A command is a value: its name, a synopsis, help that teaches with examples,
// and a function that declares its flags and returns what to run. Flags have a
// single dash (two are taken as well) and may stand before and after positional
// arguments. Main returns the exit code and touches nothing but the streams and
// environment it is given, so commands are tested in one process.
//
// Exit codes: 0 done; 1 an error, an unknown flag, nothing found; 2 where the
// command's help says so; 78 an agent whose Raft state is gone; 127 no command
// or an unknown one.
package cli
