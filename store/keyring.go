package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// KeyringOp is what is done to gossip keyrings. Numbers are on the wire.
type KeyringOp uint8

const (
	KeyringList    KeyringOp = 1
	KeyringInstall KeyringOp = 2
	KeyringUse     KeyringOp = 3 // make an installed key the primary one
	KeyringRemove  KeyringOp = 4
)

// KeyringRequest asks for an operation on the LAN rings of all datacenters.
type KeyringRequest struct {
	Op        KeyringOp
	Key       string // base64; "" for KeyringList
	Relay     uint8  // how many others pass each member's answer on
	LocalOnly bool   // this datacenter's ring only
}

// KeyringRing is what the members of one pool answered. The WAN is no ring of its
// own: its entry shows the LAN ring of the datacenter that answers.
type KeyringRing struct {
	WAN         bool
	Datacenter  string
	Messages    map[string]string // by member: what went wrong there
	Keys        map[string]int    // key -> members that have it
	PrimaryKeys map[string]int
	NumNodes    int
	Error       string // why it did not work for all members
}

// KeyringErrors joins the errors of rings into one, nil if there are none: first
// the ring's, then its members'.
func KeyringErrors(rings []KeyringRing) error {
	var list []string
	for i := range rings {
		r := &rings[i]
		if r.Error == "" {
			continue
		}
		name := r.Datacenter + " (LAN)"
		if r.WAN {
			name = "WAN"
		}
		list = append(list, name+" error: "+r.Error)
		for _, member := range slices.Sorted(maps.Keys(r.Messages)) {
			list = append(list, member+": "+r.Messages[member])
		}
	}
	if len(list) == 0 {
		return nil
	}
	var b strings.Builder
	if len(list) == 1 {
		b.WriteString("1 error occurred:")
	} else {
		fmt.Fprintf(&b, "%d errors occurred:", len(list))
	}
	for _, text := range list {
		b.WriteString("\n\t* " + text)
	}
	return Errorf(KindInvalid, "%s\n\n", b.String())
}

// String names the operation, for logs.
func (o KeyringOp) String() string {
	switch o {
	case KeyringList:
		return "list"
	case KeyringInstall:
		return "install"
	case KeyringUse:
		return "use"
	case KeyringRemove:
		return "remove"
	}
	return fmt.Sprintf("keyring-%d", uint8(o))
}
