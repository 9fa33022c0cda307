package archive

import (
	"fmt"
	"time"

	"landbridge/store"
)

// Meta is meta.json.
type Meta struct {
	Version            int
	ID                 string // "<term>-<index>-<milliseconds>"
	Index              store.Index
	Term               uint64
	Peers              []byte // of an older form of the file: empty
	Configuration      Configuration
	ConfigurationIndex uint64
	Size               int64 // of state.bin
}

// Configuration is the Raft group at the time; a restore does not use it.
type Configuration struct {
	Servers []Server
}

// Server is a member of the Raft group.
type Server struct {
	Suffrage int // 0 with a vote, 1 without
	ID       string
	Address  string
}

// version of meta.json.
const version = 1

// NewMeta describes a snapshot that is taken now. Write fills in its size.
func NewMeta(term uint64, index store.Index, now time.Time) Meta {
	return Meta{
		Version: version, ID: fmt.Sprintf("%d-%d-%d", term, index, now.UnixMilli()),
		Index: index, Term: term, Peers: []byte{},
		Configuration: Configuration{Servers: []Server{}},
	}
}
