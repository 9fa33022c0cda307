package gossip

import (
	"errors"
	"fmt"
	"net"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// ErrKeptOut is for errors of Config.Admit that are about one member alone: the
// others of a pool that still has it are joined without it.
var ErrKeptOut = errors.New("kept out")

// delegate decides who may be a member. memberlist asks it about each message
// that says somebody is alive (NotifyAlive, with its own lock held: nothing here
// may call back), and about the whole state of the other side when joining
// (NotifyMerge). It stands in for serf's merge delegate, which does not tell a
// dead holder of a name from a living one.
type delegate struct{ p *Pool }

var (
	_ memberlist.AliveDelegate = delegate{}
	_ memberlist.MergeDelegate = delegate{}
)

// NotifyAlive keeps a member out by an error.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	_, err := d.admit(n)
	return err
}

// NotifyMerge refuses a join, in both directions, with the reason.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	known := d.p.byName()
	holders := make(map[string]Member, len(known))
	for _, m := range known {
		if id := m.Tags["id"]; id != "" && m.Status == Alive {
			holders[id] = m
		}
	}
	for _, n := range nodes {
		m, err := d.admit(n)
		if errors.Is(err, ErrKeptOut) {
			continue // NotifyAlive will not have it either
		}
		if err != nil {
			return err
		}
		if n.State != memberlist.StateAlive && n.State != memberlist.StateSuspect {
			continue
		}
		if err := d.taken(m, known, holders); err != nil {
			return err
		}
		if ask := d.p.cfg.AdmitPool; ask != nil && m.Name != d.p.cfg.Name {
			if err := ask(m); err != nil {
				return d.refuse("refused", fmt.Errorf("member %q: %w", m.Name, err))
			}
		}
	}
	return nil
}

func (d delegate) admit(n *memberlist.Node) (Member, error) {
	m := Member{
		Name: n.Name, Addr: addrOf(n.Addr), Port: n.Port,
		ProtocolMin: n.PMin, ProtocolMax: n.PMax, ProtocolCur: n.PCur,
		DelegateMin: n.DMin, DelegateMax: n.DMax, DelegateCur: n.DCur,
		Status: Alive,
	}
	if n.State == memberlist.StateLeft {
		m.Status = Left
	}
	if n.State == memberlist.StateDead {
		m.Status = Failed
	}
	if !validName(n.Name) {
		return m, d.refuse("name", fmt.Errorf("member name %.150q is not valid", n.Name))
	}
	if len(n.Addr) != net.IPv4len && len(n.Addr) != net.IPv6len || n.Port == 0 {
		return m, d.refuse("address", fmt.Errorf("member %q has no valid address", n.Name))
	}
	if len(n.Meta) > memberlist.MetaMaxSize {
		return m, d.refuse("tags", fmt.Errorf("tags of member %q have %d bytes, at most %d are allowed", n.Name, len(n.Meta), memberlist.MetaMaxSize))
	}
	tags, err := decodeTags(n.Meta)
	if err != nil {
		return m, d.refuse("tags", fmt.Errorf("tags of member %q: %w", n.Name, err))
	}
	m.Tags = tags
	cfg := &d.p.cfg
	if dc := tags["dc"]; dc != cfg.Datacenter && !cfg.AnyDatacenter {
		return m, d.refuse("datacenter", fmt.Errorf("member %q is in datacenter %q, this pool is of %q", n.Name, dc, cfg.Datacenter))
	}
	if cfg.Admit != nil && m.Name != cfg.Name {
		if err := cfg.Admit(m); err != nil {
			return m, d.refuse("refused", fmt.Errorf("member %q: %w", n.Name, err))
		}
	}
	return m, nil
}

// taken refuses a name that lives elsewhere under another node id, and a node id
// that lives elsewhere under another name. A name or id whose holder failed or
// left is free, and so is one that is claimed from the holder's own address: the
// holder was restarted there, without its data or with a new name.
func (d delegate) taken(m Member, known, holders map[string]Member) error {
	theirs := m.Tags["id"]
	if theirs == "" {
		return nil
	}
	if holder, ok := known[m.Name]; ok && holder.Status == Alive && holder.AddrPort() != m.AddrPort() {
		// With one id it is the same node, which moved: memberlist decides by its state.
		if ours := holder.Tags["id"]; ours != "" && ours != theirs {
			return d.refuse("name", fmt.Errorf("node name %q is held by node %s at %s and wanted by node %s at %s: give one of them another node_name",
				m.Name, ours, holder.AddrPort(), theirs, m.AddrPort()))
		}
	}
	if holder, ok := holders[theirs]; ok && holder.Name != m.Name && holder.AddrPort() != m.AddrPort() {
		return d.refuse("id", fmt.Errorf("node id %s is held by %q at %s and wanted by %q at %s: give one of them another node_id, or remove the file node-id of a copied data_dir",
			theirs, holder.Name, holder.AddrPort(), m.Name, m.AddrPort()))
	}
	return nil
}

func (d delegate) refuse(reason string, err error) error {
	d.p.metrics.refused.WithLabelValues(reason).Inc()
	return err
}

// validName accepts what can be shown on one line and put in a DNS name or a
// path without surprises.
func validName(s string) bool {
	if s == "" || len(s) > maxName || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r == '/' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// tagMagic begins serf's encoding of tags in a member's metadata.
const tagMagic = 255

func decodeTags(meta []byte) (map[string]string, error) {
	if len(meta) == 0 || meta[0] != tagMagic {
		return map[string]string{"role": string(meta)}, nil
	}
	var tags map[string]string
	if err := codec.NewDecoderBytes(meta[1:], &codec.MsgpackHandle{}).Decode(&tags); err != nil {
		return nil, err
	}
	return tags, nil
}
