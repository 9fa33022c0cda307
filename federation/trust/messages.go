package trust

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode"

	"landbridge/store"
	"landbridge/store/wire"
)

// enrollVersion is the version of all messages below. A reader refuses others;
// within a version fields may be added, and unknown ones are skipped.
const enrollVersion = 1

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

func (f *facts) append(b []byte) []byte {
	b = wire.String(b, 1, f.datacenter)
	b = wire.String(b, 2, f.node)
	b = wire.String(b, 3, f.clusterID)
	b = wire.String(b, 4, f.configured)
	b = wire.String(b, 5, f.primary)
	b = wire.Bytes(b, 6, f.root)
	return wire.Uint(b, 7, f.others)
}

func (f *facts) decode(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			f.datacenter = d.String()
		case 2:
			f.node = d.String()
		case 3:
			f.clusterID = d.String()
		case 4:
			f.configured = d.String()
		case 5:
			f.primary = d.String()
		case 6:
			f.root = bytes.Clone(d.Bytes())
		case 7:
			f.others = d.Uint()
		}
	}
	if err := d.Err(); err != nil {
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
	version uint64
	mode    mode
	proof   []byte
	facts   facts
	csr     []byte // for its intermediate, should the other side win
	// unproven says that the joiner takes an answer without proof. An acceptor
	// that can give none then knows beforehand whether it will be believed.
	unproven bool
	token    string // id of the token whose secret proof is made with
}

func (h *hello) append(b []byte) []byte {
	b = wire.Uint(b, 1, h.version)
	b = wire.Uint(b, 2, uint64(h.mode))
	b = wire.Bytes(b, 3, h.proof)
	b = wire.Message(b, 4, h.facts.append)
	b = wire.Bytes(b, 5, h.csr)
	b = wire.Bool(b, 6, h.unproven)
	return wire.String(b, 7, h.token)
}

func (h *hello) decode(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			h.version = d.Uint()
			if h.version != enrollVersion {
				return errVersion(h.version)
			}
		case 2:
			h.mode = mode(d.Uint())
		case 3:
			h.proof = bytes.Clone(d.Bytes())
		case 4:
			if err := h.facts.decode(d.Bytes()); err != nil {
				return err
			}
		case 5:
			h.csr = bytes.Clone(d.Bytes())
		case 6:
			h.unproven = d.Bool()
		case 7:
			h.token = d.String()
		}
	}
	if err := d.Err(); err != nil {
		return err
	}
	if h.version == 0 {
		return errVersion(0)
	}
	if h.facts.datacenter == "" {
		return store.Errorf(store.KindInvalid, "enrolment without a datacenter name")
	}
	return nil
}

func errVersion(v uint64) error {
	return store.Errorf(store.KindInvalid, "the other side speaks version %d of enrolment, this server speaks %d", v, enrollVersion)
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
	version uint64
	outcome outcome
	mode    mode
	proof   []byte
	facts   facts
	csr     []byte
	grant   *grant
	kind    store.Kind
	text    string
}

func (r *reply) append(b []byte) []byte {
	b = wire.Uint(b, 1, r.version)
	b = wire.Uint(b, 2, uint64(r.outcome))
	b = wire.Uint(b, 3, uint64(r.mode))
	b = wire.Bytes(b, 4, r.proof)
	if r.facts.datacenter != "" {
		b = wire.Message(b, 5, r.facts.append)
	}
	b = wire.Bytes(b, 6, r.csr)
	if r.grant != nil {
		b = wire.Message(b, 7, r.grant.append)
	}
	b = wire.Uint(b, 8, uint64(r.kind))
	return wire.String(b, 9, r.text)
}

func (r *reply) decode(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.version = d.Uint()
			if r.version != enrollVersion {
				return errVersion(r.version)
			}
		case 2:
			r.outcome = outcome(d.Uint())
		case 3:
			r.mode = mode(d.Uint())
		case 4:
			r.proof = bytes.Clone(d.Bytes())
		case 5:
			if err := r.facts.decode(d.Bytes()); err != nil {
				return err
			}
		case 6:
			r.csr = bytes.Clone(d.Bytes())
		case 7:
			r.grant = new(grant)
			if err := r.grant.decode(d.Bytes()); err != nil {
				return err
			}
		case 8:
			r.kind = store.Kind(d.Uint())
		case 9:
			r.text = printable(d.String())
		}
	}
	if err := d.Err(); err != nil {
		return err
	}
	if r.version == 0 {
		return errVersion(0)
	}
	return nil
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

func (g *grant) append(b []byte) []byte {
	b = wire.String(b, 1, g.federationID)
	b = wire.String(b, 2, g.primary)
	for _, r := range g.roots {
		b = wire.Element(b, 3, r)
	}
	b = wire.Bytes(b, 4, g.intermediate)
	for i := range g.datacenters {
		b = wire.Message(b, 5, g.datacenters[i].AppendWire)
	}
	for _, c := range g.crosses {
		b = wire.Element(b, 6, c)
	}
	for i := range g.revoked {
		b = wire.Message(b, 7, g.revoked[i].AppendWire)
	}
	b = wire.Uint(b, 8, g.revision)
	b = wire.Uint(b, 9, g.pruned)
	if g.promotion != nil {
		b = wire.Message(b, 10, g.promotion.AppendWire)
	}
	return b
}

func (g *grant) decode(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			g.federationID = d.String()
		case 2:
			g.primary = d.String()
		case 3:
			if len(g.roots) == maxRoots {
				return fmt.Errorf("%w: more than %d roots", wire.ErrTruncated, maxRoots)
			}
			g.roots = append(g.roots, bytes.Clone(d.Bytes()))
		case 4:
			g.intermediate = bytes.Clone(d.Bytes())
		case 5:
			var dc store.TrustDatacenter
			if err := dc.DecodeWire(d.Bytes()); err != nil {
				return err
			}
			g.datacenters = append(g.datacenters, dc)
		case 6:
			if len(g.crosses) == maxRoots {
				return fmt.Errorf("%w: more than %d cross-signed roots", wire.ErrTruncated, maxRoots)
			}
			g.crosses = append(g.crosses, bytes.Clone(d.Bytes()))
		case 7:
			if len(g.revoked) == maxRevoked {
				return fmt.Errorf("%w: more than %d revocations", wire.ErrTruncated, maxRevoked)
			}
			var r store.TrustRevocation
			if err := r.DecodeWire(d.Bytes()); err != nil {
				return err
			}
			g.revoked = append(g.revoked, r)
		case 8:
			g.revision = d.Uint()
		case 9:
			g.pruned = d.Uint()
		case 10:
			g.promotion = new(store.Promotion)
			if err := g.promotion.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return d.Err()
}

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
