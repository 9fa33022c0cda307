package acl

import "landbridge/store"

// Resource is a kind of thing that rules are about.
type Resource uint8

// The resources with names come first: rules about them have labels.
const (
	Agent     Resource = iota // by node name
	Node                      // by node name
	Service                   // by service name
	Key                       // by key
	Session                   // by the name of the session's node
	Event                     // by event name
	Query                     // by the name of a prepared query
	Identity                  // by workload identity; nothing asks for it
	Intention                 // by the destination's name: `intentions` of service rules
	Operator
	Keyring
	ACL
	Mesh
	Peering
	resources
)

// named is how many resources have names.
const named = Operator

var resourceWords = [resources]string{
	Agent: "agent", Node: "node", Service: "service", Key: "key", Session: "session", Event: "event", Query: "query",
	Identity: "identity", Intention: "intention", Operator: "operator", Keyring: "keyring", ACL: "acl", Mesh: "mesh", Peering: "peering",
}

// String is the resource's word, as in rules and errors.
func (r Resource) String() string {
	if r < resources {
		return resourceWords[r]
	}
	return "unknown"
}

// Named is whether the resource's rules have labels.
func (r Resource) Named() bool { return r < named }

// folds is whether names of the resource are the same in whatever case.
func (r Resource) folds() bool {
	switch r {
	case Agent, Node, Service, Session, Query, Intention:
		return true
	}
	return false
}

// ParseResource finds a resource by its word.
func ParseResource(word string) (Resource, error) {
	for r, w := range resourceWords {
		if w == word {
			return Resource(r), nil
		}
	}
	return 0, store.Errorf(store.KindBadRequest, "Invalid Resource: unknown resource %q", word)
}

// Access is what somebody wants to do.
type Access uint8

// Each includes the ones before it.
const (
	Read Access = iota
	List        // keys only: read all keys below a prefix in one request
	Write
)

var accessWords = [...]string{Read: "read", List: "list", Write: "write"}

// String is the access' word, as in rules and errors.
func (a Access) String() string { return accessWords[min(a, Write)] }

// ParseAccess finds an access by its word.
func ParseAccess(word string) (Access, error) {
	for a, w := range accessWords {
		if w == word {
			return Access(a), nil
		}
	}
	return 0, store.Errorf(store.KindBadRequest, "Invalid Access: unknown access %q", word)
}

// level is what a rule says about its name: unset, a refusal, or the most that
// is allowed.
type level uint8

const (
	unset level = iota
	deny
	read
	list
	write
)

// allows is whether the level is enough for an access.
func (l level) allows(a Access) bool { return l >= read+level(a) }

// merge joins what two rules say about the same name.
func (l level) merge(m level) level {
	if l == deny || m == deny {
		return deny
	}
	return max(l, m)
}

func parseLevel(word string) (level, bool) {
	switch word {
	case "deny":
		return deny, true
	case "read":
		return read, true
	case "list":
		return list, true
	case "write":
		return write, true
	}
	return unset, false
}
