package store

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// UserEvent is a message from a user to agents of a datacenter. It is gossiped,
// best effort, and kept by the agents whose name and services match its filters.
type UserEvent struct {
	ID            string // UUID, chosen by the agent that fires it: told twice, it counts once
	Name          string
	Payload       []byte
	NodeFilter    string // regular expressions; "" matches all
	ServiceFilter string
	TagFilter     string
	LTime         uint64 // when it was fired, in the pool's logical time; it does not travel
}

// UserEventVersion is the version that events say they have.
const UserEventVersion = 1

// EventFilter is an event's filters, compiled.
type EventFilter struct{ node, service, tag *regexp.Regexp }

// Filter compiles the filters, or says what is wrong with them.
func (e *UserEvent) Filter() (f EventFilter, err error) {
	compile := func(what, expr string) (re *regexp.Regexp) {
		if expr == "" || err != nil {
			return nil
		}
		if re, err = regexp.Compile(expr); err != nil {
			err = Errorf(KindInvalid, "Invalid %s filter: %w", what, err)
		}
		return re
	}
	f.node = compile("node", e.NodeFilter)
	f.service = compile("service", e.ServiceFilter)
	if e.TagFilter != "" && e.ServiceFilter == "" && err == nil {
		err = Errorf(KindInvalid, "Cannot provide tag filter without service filter")
	}
	f.tag = compile("tag", e.TagFilter)
	return f, err
}

// MatchNode reports whether the node's name matches.
func (f EventFilter) MatchNode(name string) bool { return f.node == nil || f.node.MatchString(name) }

// AnyService reports whether services do not matter.
func (f EventFilter) AnyService() bool { return f.service == nil }

// MatchService reports whether a service matches by its name and, if tags matter,
// by one of these.
func (f EventFilter) MatchService(name string, tags []string) bool {
	if f.service != nil && !f.service.MatchString(name) {
		return false
	}
	if f.tag == nil {
		return true
	}
	for _, t := range tags {
		if f.tag.MatchString(t) {
			return true
		}
	}
	return false
}

// Index is the event's place in the index of event lists: both halves of the ID
// folded into one number, as clients compute it too. It says only whether two
// events are the same.
func (e *UserEvent) Index() Index {
	b, err := uuidBytes(e.ID)
	if err != nil {
		return 1
	}
	var n uint64
	for half := range 2 {
		var v uint64
		for _, c := range b[8*half : 8*half+8] {
			v = v<<8 | uint64(c)
		}
		n ^= v
	}
	return max(Index(n), 1)
}

// NewUUID returns a random UUID.
func NewUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return uuidString(b[:])
}

func uuidString(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func uuidBytes(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err == nil && (len(b) != 16 || uuidString(b) != strings.ToLower(s)) {
		err = Errorf(KindInvalid, "%q is not a UUID", s)
	}
	return b, err
}
