package store

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
)

// What a service without the blocks of the mesh shows.
const (
	noProxy   = `{"Mode":"","MeshGateway":{},"Expose":{}}`
	noConnect = `{}`
)

// AppendJSON appends the node as the HTTP API shows it.
func (n *Node) AppendJSON(b []byte) []byte {
	b = n.appendHead(b)
	b = fieldMap(b, "Meta", n.Meta)
	b = fieldUint(b, "CreateIndex", uint64(n.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(n.ModifyIndex))
	return append(b, '}')
}

func (n *Node) appendHead(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "ID", n.ID)
	b = fieldString(b, "Node", n.Node)
	b = fieldString(b, "Address", n.Address)
	b = fieldString(b, "Datacenter", n.Datacenter)
	return fieldMap(b, "TaggedAddresses", n.TaggedAddresses)
}

// JSON returns the node's JSON, encoded once and shared: callers must not change it.
func (n *Node) JSON() []byte { return fragment(&n.json, n.AppendJSON) }

// catalogHalf is the node's share of a CatalogService object, up to and without
// the comma before "ServiceKind".
func (n *Node) catalogHalf() []byte {
	return fragment(&n.catalogJSON, func(b []byte) []byte {
		return fieldMap(n.appendHead(b), "NodeMeta", n.Meta)
	})
}

// Clone returns a copy that shares nothing with n.
func (n *Node) Clone() *Node {
	return &Node{ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter,
		TaggedAddresses: maps.Clone(n.TaggedAddresses), Meta: maps.Clone(n.Meta),
		CreateIndex: n.CreateIndex, ModifyIndex: n.ModifyIndex}
}

// AppendJSON appends the service in the NodeService form.
func (s *Service) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	if s.Kind != "" {
		b = fieldString(b, "Kind", s.Kind)
	}
	b = fieldString(b, "ID", s.ID)
	b = fieldString(b, "Service", s.Name)
	b = fieldStrings(b, "Tags", s.Tags)
	b = fieldString(b, "Address", s.Address)
	if len(s.TaggedAddresses) > 0 {
		b = fieldAddresses(b, "TaggedAddresses", s.TaggedAddresses)
	}
	b = fieldMap(b, "Meta", s.Meta)
	b = fieldInt(b, "Port", s.Port)
	if s.SocketPath != "" {
		b = fieldString(b, "SocketPath", s.SocketPath)
	}
	b = s.Weights.append(field(b, "Weights"))
	b = fieldBool(b, "EnableTagOverride", s.EnableTagOverride)
	b = fieldRaw(b, "Proxy", s.Proxy, noProxy)
	b = fieldRaw(b, "Connect", s.Connect, noConnect)
	if len(s.Locality) > 0 {
		b = fieldRaw(b, "Locality", s.Locality, "")
	}
	b = fieldString(b, "PeerName", "")
	b = fieldUint(b, "CreateIndex", uint64(s.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(s.ModifyIndex))
	return append(b, '}')
}

func (w Weights) append(b []byte) []byte {
	b = append(b, `{"Passing":`...)
	b = strconv.AppendInt(b, int64(w.Passing), 10)
	b = append(b, `,"Warning":`...)
	b = strconv.AppendInt(b, int64(w.Warning), 10)
	return append(b, '}')
}

// JSON returns the NodeService form, encoded once and shared: callers must not
// change it.
func (s *Service) JSON() []byte { return fragment(&s.json, s.AppendJSON) }

func (s *Service) catalogHalf() []byte {
	return fragment(&s.catalogJSON, func(b []byte) []byte {
		b = append(b, '{') // so that the first field knows no comma; dropped by the joiner
		b = fieldString(b, "ServiceKind", s.Kind)
		b = fieldString(b, "ServiceID", s.ID)
		b = fieldString(b, "ServiceName", s.Name)
		b = fieldStrings(b, "ServiceTags", s.Tags)
		b = fieldString(b, "ServiceAddress", s.Address)
		if len(s.TaggedAddresses) > 0 {
			b = fieldAddresses(b, "ServiceTaggedAddresses", s.TaggedAddresses)
		}
		b = s.Weights.append(field(b, "ServiceWeights"))
		if s.Meta == nil { // where NodeService says null, this form says {}
			b = append(field(b, "ServiceMeta"), "{}"...)
		} else {
			b = fieldMap(b, "ServiceMeta", s.Meta)
		}
		b = fieldInt(b, "ServicePort", s.Port)
		b = fieldString(b, "ServiceSocketPath", s.SocketPath)
		b = fieldBool(b, "ServiceEnableTagOverride", s.EnableTagOverride)
		b = fieldRaw(b, "ServiceProxy", s.Proxy, noProxy)
		b = fieldRaw(b, "ServiceConnect", s.Connect, noConnect)
		b = fieldRaw(b, "ServiceLocality", s.Locality, "null")
		b = fieldUint(b, "CreateIndex", uint64(s.CreateIndex))
		b = fieldUint(b, "ModifyIndex", uint64(s.ModifyIndex))
		return append(b, '}')
	})
}

// AppendCatalogService appends the CatalogService form of an instance, joined
// from the two cached halves.
func AppendCatalogService(b []byte, node *Node, svc *Service) []byte {
	b = append(b, node.catalogHalf()...)
	b = append(b, ',')
	return append(b, svc.catalogHalf()[1:]...)
}

// Clone returns a copy that shares nothing with s.
func (s *Service) Clone() *Service {
	return &Service{Node: s.Node, Kind: s.Kind, ID: s.ID, Name: s.Name, Tags: slices.Clone(s.Tags),
		Address: s.Address, TaggedAddresses: maps.Clone(s.TaggedAddresses), Meta: maps.Clone(s.Meta),
		Port: s.Port, SocketPath: s.SocketPath, Weights: s.Weights, EnableTagOverride: s.EnableTagOverride,
		Proxy: bytes.Clone(s.Proxy), Connect: bytes.Clone(s.Connect), Locality: bytes.Clone(s.Locality),
		CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex}
}

// AppendJSON appends the check as the HTTP API shows it.
func (c *Check) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "Node", c.Node)
	b = fieldString(b, "CheckID", c.CheckID)
	b = fieldString(b, "Name", c.Name)
	b = fieldString(b, "Status", c.Status)
	b = fieldString(b, "Notes", c.Notes)
	b = fieldString(b, "Output", c.Output)
	b = fieldString(b, "ServiceID", c.ServiceID)
	b = fieldString(b, "ServiceName", c.ServiceName)
	b = fieldStrings(b, "ServiceTags", c.ServiceTags)
	b = fieldString(b, "Type", c.Type)
	b = fieldString(b, "Interval", c.Interval)
	b = fieldString(b, "Timeout", c.Timeout)
	b = fieldInt(b, "ExposedPort", c.ExposedPort)
	b = fieldRaw(b, "Definition", c.Definition, "{}")
	b = fieldUint(b, "CreateIndex", uint64(c.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(c.ModifyIndex))
	return append(b, '}')
}

// JSON returns the check's JSON, encoded once and shared: callers must not change it.
func (c *Check) JSON() []byte { return fragment(&c.json, c.AppendJSON) }

// Clone returns a copy that shares nothing with c.
func (c *Check) Clone() *Check {
	return &Check{Node: c.Node, CheckID: c.CheckID, Name: c.Name, Status: c.Status, Notes: c.Notes,
		Output: c.Output, ServiceID: c.ServiceID, ServiceName: c.ServiceName,
		ServiceTags: slices.Clone(c.ServiceTags), Type: c.Type, Interval: c.Interval, Timeout: c.Timeout,
		ExposedPort: c.ExposedPort, Definition: bytes.Clone(c.Definition),
		CreateIndex: c.CreateIndex, ModifyIndex: c.ModifyIndex}
}
