package trust

import "landbridge/store"

// Bodies of the Trust methods.

// signServerRequest is the body of Trust.SignServer. With an empty csr it only
// reports that node uses a certificate below root.
type signServerRequest struct {
	csr  []byte
	node string
	root string
}

func (m *signServerRequest) fields(c *codec) {
	c.version()
	c.bytes(2, &m.csr)
	c.text(3, &m.node)
	c.text(4, &m.root)
}

func (m *signServerRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *signServerRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// signServerReply is a server's certificate and its issuer's.
type signServerReply struct {
	leaf, intermediate []byte
}

func (m *signServerReply) fields(c *codec) {
	c.version()
	c.bytes(2, &m.leaf)
	c.bytes(3, &m.intermediate)
}

func (m *signServerReply) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *signServerReply) decode(b []byte) error  { return decodeMessage(b, m) }

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

func (m *signIntermediateRequest) fields(c *codec) {
	c.version()
	c.bytes(2, &m.csr)
	c.part(3, true, &m.subject)
	c.flag(4, &m.renewal)
	c.flag(5, &m.dialed)
	c.text(6, &m.token)
}

func (m *signIntermediateRequest) append(b []byte) []byte { return encodeMessage(b, m) }

func (m *signIntermediateRequest) decode(b []byte) error {
	err := decodeMessage(b, m)
	if err == nil && m.subject.datacenter == "" {
		return store.Errorf(store.KindInvalid, "request names no datacenter")
	}
	return err
}

// signIntermediateReply grants, or says that the subject wins after all.
type signIntermediateReply struct {
	outcome outcome // granted, same or reverse
	grant   grant
}

func (m *signIntermediateReply) fields(c *codec) {
	c.version()
	integer(c, 2, &m.outcome)
	c.part(3, true, &m.grant)
}

func (m *signIntermediateReply) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *signIntermediateReply) decode(b []byte) error  { return decodeMessage(b, m) }

// joinRequest is the body of Trust.Join: an address to enrol with, or a grant
// that another server of this datacenter was given for all of it.
type joinRequest struct {
	address string
	adopt   *grant
	index   store.Index // of the record the grant was decided on
	token   string      // as `wan token` printed it, instead of an address
}

func (m *joinRequest) fields(c *codec) {
	c.version()
	c.text(2, &m.address)
	option(c, 3, &m.adopt)
	integer(c, 4, &m.index)
	c.text(5, &m.token)
}

func (m *joinRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *joinRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// joinReply names the root in force after a join, and the address that answered.
type joinReply struct {
	root    string
	address string
	// notHere: the leader cannot reach other datacenters, a server that can is to
	// do it in its place.
	notHere bool
}

func (m *joinReply) fields(c *codec) {
	c.version()
	c.text(2, &m.root)
	c.text(3, &m.address)
	c.flag(4, &m.notHere)
}

func (m *joinReply) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *joinReply) decode(b []byte) error  { return decodeMessage(b, m) }

// confirmRequest is the body of Trust.Confirm.
type confirmRequest struct{ datacenter, root string }

func (m *confirmRequest) fields(c *codec) {
	c.version()
	c.text(2, &m.datacenter)
	c.text(3, &m.root)
}

func (m *confirmRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *confirmRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// evictRequest is the body of Trust.Evict; node "" is the whole datacenter.
type evictRequest struct {
	node, datacenter string
	undo             bool
	forget           bool // a datacenter is evicted, and may join again at once as another cluster
}

func (m *evictRequest) fields(c *codec) {
	c.version()
	c.text(2, &m.node)
	c.text(3, &m.datacenter)
	c.flag(4, &m.undo)
	c.flag(5, &m.forget)
}

func (m *evictRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *evictRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// rotateRequest is the body of Trust.Rotate.
type rotateRequest struct{ what string }

func (m *rotateRequest) fields(c *codec) {
	c.version()
	c.text(2, &m.what)
}

func (m *rotateRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *rotateRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// holderRequest is the body of Trust.Holder.
type holderRequest struct{ keyHash string }

func (m *holderRequest) fields(c *codec) {
	c.version()
	c.text(2, &m.keyHash)
}

func (m *holderRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *holderRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// tokenRequest is the body of Trust.Token.
type tokenRequest struct {
	datacenter string // who may use it; "": anybody
	seconds    uint64 // it is good for
	addresses  []string
}

func (m *tokenRequest) fields(c *codec) {
	c.version()
	c.text(2, &m.datacenter)
	integer(c, 3, &m.seconds)
	list(c, 4, &m.addresses, maxTokenAddresses, "addresses")
}

func (m *tokenRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *tokenRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// promoteRequest is the body of Trust.Promote.
type promoteRequest struct {
	force bool // although the primary answers
}

func (m *promoteRequest) fields(c *codec) {
	c.version()
	c.flag(2, &m.force)
}

func (m *promoteRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *promoteRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// followRequest is the body of Trust.Follow.
type followRequest struct{ datacenter string }

func (m *followRequest) fields(c *codec) {
	c.version()
	c.text(2, &m.datacenter)
}

func (m *followRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *followRequest) decode(b []byte) error  { return decodeMessage(b, m) }

// pullRequest is the body of Trust.Pull where a promotion was heard of.
type pullRequest struct {
	datacenter string
	term       uint64
	primary    string
}

func (m *pullRequest) fields(c *codec) {
	c.version()
	c.text(2, &m.datacenter)
	integer(c, 3, &m.term)
	c.text(4, &m.primary)
}

func (m *pullRequest) append(b []byte) []byte { return encodeMessage(b, m) }
func (m *pullRequest) decode(b []byte) error  { return decodeMessage(b, m) }
