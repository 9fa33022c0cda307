// Package store holds the words the rest of landbridge speaks: the records a
// datacenter keeps, the commands that change them, the options of a read, and
// the closed set of error kinds. It imports nothing of ours but store/wire, and
// nothing outside the standard library, so that every layer can use it.
//
// Records handed out by store/state are shared and immutable: a reader must
// never change one, and a writer replaces it by a new one (Clone).
package store
