package trust

import (
	"bytes"

	"landbridge/store"
	"landbridge/store/wire"
)

// Bodies of the Trust methods, in the format and under the version of
// messages.go.

// signServerRequest is the body of Trust.SignServer. With an empty csr it only
// reports that node uses a certificate below root.
type signServerRequest struct {
	csr  []byte
	node string
	root string
}

func (m *signServerRequest) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.Bytes(b, 2, m.csr)
	b = wire.String(b, 3, m.node)
	return wire.String(b, 4, m.root)
}

func (m *signServerRequest) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.csr = bytes.Clone(d.Bytes())
		case 3:
			m.node = d.String()
		case 4:
			m.root = d.String()
		}
	}
	return versioned(version, d.Err())
}

// signServerReply is a server's certificate and its issuer's.
type signServerReply struct {
	leaf, intermediate []byte
}

func (m *signServerReply) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.Bytes(b, 2, m.leaf)
	return wire.Bytes(b, 3, m.intermediate)
}

func (m *signServerReply) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.leaf = bytes.Clone(d.Bytes())
		case 3:
			m.intermediate = bytes.Clone(d.Bytes())
		}
	}
	return versioned(version, d.Err())
}

// signIntermediateRequest is the body of Trust.SignIntermediate. facts.root is
// what the subject's own root is, for a decision between two joins at once.
type signIntermediateRequest struct {
	csr     []byte
	subject facts
	renewal bool // the subject's own leader asks, being part of the federation
	// dialed: the server asked dialed the subject, which lost the decision there.
	dialed bool
	token  string // id of the token that the subject proved to hold
}

func (m *signIntermediateRequest) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.Bytes(b, 2, m.csr)
	b = wire.Message(b, 3, m.subject.append)
	b = wire.Bool(b, 4, m.renewal)
	b = wire.Bool(b, 5, m.dialed)
	return wire.String(b, 6, m.token)
}

func (m *signIntermediateRequest) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.csr = bytes.Clone(d.Bytes())
		case 3:
			if err := m.subject.decode(d.Bytes()); err != nil {
				return err
			}
		case 4:
			m.renewal = d.Bool()
		case 5:
			m.dialed = d.Bool()
		case 6:
			m.token = d.String()
		}
	}
	if d.Err() == nil && m.subject.datacenter == "" {
		return store.Errorf(store.KindInvalid, "request names no datacenter")
	}
	return versioned(version, d.Err())
}

// signIntermediateReply grants, or says that the subject wins after all.
type signIntermediateReply struct {
	outcome outcome // granted, same or reverse
	grant   grant
}

func (m *signIntermediateReply) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.Uint(b, 2, uint64(m.outcome))
	return wire.Message(b, 3, m.grant.append)
}

func (m *signIntermediateReply) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.outcome = outcome(d.Uint())
		case 3:
			if err := m.grant.decode(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return versioned(version, d.Err())
}

// joinRequest is the body of Trust.Join: an address to enrol with, or a grant
// that another server of this datacenter was given for all of it.
type joinRequest struct {
	address string
	adopt   *grant
	index   store.Index // of the record the grant was decided on
	token   string      // as `wan token` printed it, instead of an address
}

func (m *joinRequest) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.String(b, 2, m.address)
	if m.adopt != nil {
		b = wire.Message(b, 3, m.adopt.append)
	}
	b = wire.Uint(b, 4, uint64(m.index))
	return wire.String(b, 5, m.token)
}

func (m *joinRequest) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.address = d.String()
		case 3:
			m.adopt = new(grant)
			if err := m.adopt.decode(d.Bytes()); err != nil {
				return err
			}
		case 4:
			m.index = store.Index(d.Uint())
		case 5:
			m.token = d.String()
		}
	}
	return versioned(version, d.Err())
}

// joinReply names the root in force after a join, and the address that answered.
type joinReply struct {
	root    string
	address string
	// notHere: the leader cannot reach other datacenters, a server that can is to
	// do it in its place.
	notHere bool
}

func (m *joinReply) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.String(b, 2, m.root)
	b = wire.String(b, 3, m.address)
	return wire.Bool(b, 4, m.notHere)
}

func (m *joinReply) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.root = d.String()
		case 3:
			m.address = d.String()
		case 4:
			m.notHere = d.Bool()
		}
	}
	return versioned(version, d.Err())
}

// confirmRequest is the body of Trust.Confirm.
type confirmRequest struct{ datacenter, root string }

func (m *confirmRequest) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.String(b, 2, m.datacenter)
	return wire.String(b, 3, m.root)
}

func (m *confirmRequest) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.datacenter = d.String()
		case 3:
			m.root = d.String()
		}
	}
	return versioned(version, d.Err())
}

// evictRequest is the body of Trust.Evict; node "" is the whole datacenter.
type evictRequest struct {
	node, datacenter string
	undo             bool
	forget           bool // a datacenter is evicted, and may join again at once as another cluster
}

func (m *evictRequest) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.String(b, 2, m.node)
	b = wire.String(b, 3, m.datacenter)
	b = wire.Bool(b, 4, m.undo)
	return wire.Bool(b, 5, m.forget)
}

func (m *evictRequest) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.node = d.String()
		case 3:
			m.datacenter = d.String()
		case 4:
			m.undo = d.Bool()
		case 5:
			m.forget = d.Bool()
		}
	}
	return versioned(version, d.Err())
}

// rotateRequest is the body of Trust.Rotate and holderRequest that of
// Trust.Holder: one string each.
type (
	rotateRequest struct{ what string }
	holderRequest struct{ keyHash string }
)

func (m *rotateRequest) append(b []byte) []byte      { return appendOne(b, m.what) }
func (m *rotateRequest) decode(b []byte) (err error) { m.what, err = decodeOne(b); return err }
func (m *holderRequest) append(b []byte) []byte      { return appendOne(b, m.keyHash) }
func (m *holderRequest) decode(b []byte) (err error) { m.keyHash, err = decodeOne(b); return err }

func appendOne(b []byte, s string) []byte {
	return wire.String(wire.Uint(b, 1, enrollVersion), 2, s)
}

func decodeOne(b []byte) (s string, err error) {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			s = d.String()
		}
	}
	return s, versioned(version, d.Err())
}

// tokenRequest is the body of Trust.Token.
type tokenRequest struct {
	datacenter string // who may use it; "": anybody
	seconds    uint64 // it is good for
	addresses  []string
}

func (m *tokenRequest) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.String(b, 2, m.datacenter)
	b = wire.Uint(b, 3, m.seconds)
	for _, a := range m.addresses {
		b = wire.StringElement(b, 4, a)
	}
	return b
}

func (m *tokenRequest) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.datacenter = d.String()
		case 3:
			m.seconds = d.Uint()
		case 4:
			if len(m.addresses) == maxTokenAddresses {
				return store.Errorf(store.KindInvalid, "more than %d addresses", maxTokenAddresses)
			}
			m.addresses = append(m.addresses, d.String())
		}
	}
	return versioned(version, d.Err())
}

// promoteRequest is the body of Trust.Promote.
type promoteRequest struct {
	force bool // although the primary answers
}

func (m *promoteRequest) append(b []byte) []byte {
	return wire.Bool(wire.Uint(b, 1, enrollVersion), 2, m.force)
}

func (m *promoteRequest) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.force = d.Bool()
		}
	}
	return versioned(version, d.Err())
}

// followRequest is the body of Trust.Follow.
type followRequest struct{ datacenter string }

func (m *followRequest) append(b []byte) []byte      { return appendOne(b, m.datacenter) }
func (m *followRequest) decode(b []byte) (err error) { m.datacenter, err = decodeOne(b); return err }

// pullRequest is the body of Trust.Pull where a promotion was heard of.
type pullRequest struct {
	datacenter string
	term       uint64
	primary    string
}

func (m *pullRequest) append(b []byte) []byte {
	b = wire.Uint(b, 1, enrollVersion)
	b = wire.String(b, 2, m.datacenter)
	b = wire.Uint(b, 3, m.term)
	return wire.String(b, 4, m.primary)
}

func (m *pullRequest) decode(b []byte) error {
	version := uint64(0)
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			version = d.Uint()
		case 2:
			m.datacenter = d.String()
		case 3:
			m.term = d.Uint()
		case 4:
			m.primary = d.String()
		}
	}
	return versioned(version, d.Err())
}

func versioned(v uint64, err error) error {
	if err == nil && v != enrollVersion {
		return errVersion(v)
	}
	return err
}
