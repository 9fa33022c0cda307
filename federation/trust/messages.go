package trust

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode"

	"landbridge/store"
)

// Bounds. Nothing before authentication is read beyond maxHello.
const (
	maxHello = 16 << 10
	maxReply = 1 << 20 // holds the list of all datacenters
	maxCSR   = 4 << 10
	maxText  = 1 << 10
	maxRoots = 16
)

// mode says how a side proves itself.
type mode uint8

const (
	modeNone     mode = 0
	modeKey      mode = 1
	modeOperator mode = 2
	modeToken    mode = 3
)

// facts is what a side says about its datacenter, for deciding who wins.
type facts struct {
	datacenter string
	node       string
	clusterID  string
	configured string // primary_datacenter, "" if unset
	primary    string // of the record
	root       []byte // DER of the current root
	others     uint64 // members of its federation besides itself and the other side
}

func (f *facts) fields(c *codec) {
	c.text(1, &f.datacenter)
	c.text(2, &f.node)
	c.text(3, &f.clusterID)
	c.text(4, &f.configured)
	c.text(5, &f.primary)
	c.bytes(6, &f.root)
	integer(c, 7, &f.others)
}

func (f *facts) AppendWire(b []byte) []byte { return encodeMessage(b, f) }

func (f *facts) DecodeWire(b []byte) error {
	if err := decodePart(b, f); err != nil {
		return err
	}
	if err := validNode(f.node); err != nil {
		return err
	}
	if err := validDatacenter(f.datacenter); err != nil {
		return err
	}
	for _, dc := range []string{f.configured, f.primary} {
		if dc == "" {
			continue
		}
		if err := validDatacenter(dc); err != nil {
			return err
		}
	}
	if len(f.clusterID) > maxNodeName {
		return store.Errorf(store.KindInvalid, "cluster id over %d bytes", maxNodeName)
	}
	return nil
}

// hello opens an enrolment: the joiner's whole half, so that one exchange does.
type hello struct {
	mode  mode
	proof []byte
	facts facts
	csr   []byte // for its intermediate, should the other side win
	// unproven says that the joiner takes an answer without proof. An acceptor
	// that can give none then knows beforehand whether it will be believed.
	unproven bool
	token    string // id of the token whose secret proof is made with
}

func (h *hello) fields(c *codec) {
	c.version()
	integer(c, 2, &h.mode)
	c.bytes(3, &h.proof)
	c.part(4, true, &h.facts)
	c.bytes(5, &h.csr)
	c.flag(6, &h.unproven)
	c.text(7, &h.token)
}

func (h *hello) append(b []byte) []byte { return encodeMessage(b, h) }

func (h *hello) decode(b []byte) error {
	err := decodeMessage(b, h)
	if err == nil && h.facts.datacenter == "" {
		return store.Errorf(store.KindInvalid, "enrolment without a datacenter name")
	}
	return err
}

// outcome is what the accepting side answers.
type outcome uint8

const (
	outcomeRefused outcome = 1 // kind and text say why
	outcomeSame    outcome = 2 // one federation already
	outcomeGranted outcome = 3 // grant is for the dialing side
	outcomeReverse outcome = 4 // the dialing side wins and answers csr with a grant
	outcomeDone    outcome = 5 // the accepting side took the grant
)

// reply answers a hello, and the grant of a reversed enrolment.
type reply struct {
	outcome outcome
	mode    mode
	proof   []byte
	facts   facts
	csr     []byte
	grant   *grant
	kind    store.Kind
	text    string
}

func (r *reply) fields(c *codec) {
	c.version()
	integer(c, 2, &r.outcome)
	integer(c, 3, &r.mode)
	c.bytes(4, &r.proof)
	c.part(5, r.facts.datacenter != "", &r.facts)
	c.bytes(6, &r.csr)
	option(c, 7, &r.grant)
	integer(c, 8, &r.kind)
	c.text(9, &r.text)
}

func (r *reply) append(b []byte) []byte { return encodeMessage(b, r) }

func (r *reply) decode(b []byte) error {
	err := decodeMessage(b, r)
	r.text = printable(r.text)
	return err
}

// grant is what a datacenter needs to be part of a federation.
type grant struct {
	federationID string
	primary      string
	roots        [][]byte // DER, the current one first
	intermediate []byte
	datacenters  []store.TrustDatacenter
	crosses      [][]byte // certificates of the keys of roots, by those they replaced
	revoked      []store.TrustRevocation
	revision     uint64
	pruned       uint64
	promotion    *store.Promotion // of primary, nil if there was none
}

func (g *grant) fields(c *codec) {
	c.text(1, &g.federationID)
	c.text(2, &g.primary)
	list(c, 3, &g.roots, maxRoots, "roots")
	c.bytes(4, &g.intermediate)
	records(c, 5, &g.datacenters, 0, "")
	list(c, 6, &g.crosses, maxRoots, "cross-signed roots")
	records(c, 7, &g.revoked, maxRevoked, "revocations")
	integer(c, 8, &g.revision)
	integer(c, 9, &g.pruned)
	option(c, 10, &g.promotion)
}

func (g *grant) AppendWire(b []byte) []byte { return encodeMessage(b, g) }
func (g *grant) DecodeWire(b []byte) error  { return decodePart(b, g) }

// printable makes a peer's text fit for logs and terminals.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
}

// writeFrame sends one message: its length in four bytes, then itself.
func writeFrame(w io.Writer, fill func([]byte) []byte) error {
	b := fill(make([]byte, 4, 2048))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err := w.Write(b)
	return err
}

// readFrame reads one message of at most limit bytes. It allocates as bytes
// arrive, never by the declared length.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n > int64(limit) {
		return nil, fmt.Errorf("message of %d bytes, at most %d allowed", n, limit)
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, n); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf.Bytes(), nil
}
