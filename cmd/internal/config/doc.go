// Package config reads an agent's configuration: files in HCL or JSON, -hcl
// fragments and flags, merged into one Config of plain values under the names
// users write. Later sources win: defaults, files in the order of the command
// line, fragments, flags. Lists are joined (flags, files, fragments), maps merged.
//
// Every key is known to one tree (schema.go): those that take effect are the
// fields of Config, found by their `key` tags; all others stand in a table
// (keys.go) that says what happens to them: accepted without effect, accepted
// and named in a warning because landbridge does not have them yet, refused
// because ignoring them would leave something unprotected, or an old spelling
// of another key. A key the tree does not know is an error that names the
// nearest one it does.
//
// Load reports all problems at once, each with the file and the key. It reads
// files and asks for this machine's addresses, and has no other effects; the
// result belongs to the caller. A Loader may be used again, one call at a time,
// which is how an agent reloads.
package config
