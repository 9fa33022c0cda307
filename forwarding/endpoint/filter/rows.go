package filter

import (
	"encoding/json"

	"landbridge/store"
)

// The schemas of the catalog's rows, with the names of their JSON (spec
// http-catalog-health 3). Indexes cannot be selected. The blocks of the mesh are
// opaque to the catalog: of them only Connect.Native can.

// Nodes is the schema of a node.
func Nodes() Schema[*store.Node] {
	return Schema[*store.Node]{
		"ID":              {Str: func(n *store.Node) string { return n.ID }},
		"Node":            {Str: func(n *store.Node) string { return n.Node }},
		"Address":         {Str: func(n *store.Node) string { return n.Address }},
		"Datacenter":      {Str: func(n *store.Node) string { return n.Datacenter }},
		"TaggedAddresses": {Map: func(n *store.Node) map[string]string { return n.TaggedAddresses }},
		"Meta":            {Map: func(n *store.Node) map[string]string { return n.Meta }},
	}
}

// Services is the schema of an instance as a node lists it.
func Services() Schema[*store.Service] {
	return Schema[*store.Service]{
		"Kind":              {Str: func(s *store.Service) string { return s.Kind }},
		"ID":                {Str: func(s *store.Service) string { return s.ID }},
		"Service":           {Str: func(s *store.Service) string { return s.Name }},
		"Tags":              {List: func(s *store.Service) []string { return s.Tags }},
		"Address":           {Str: func(s *store.Service) string { return s.Address }},
		"TaggedAddresses":   {Addrs: func(s *store.Service) map[string]store.ServiceAddress { return s.TaggedAddresses }},
		"Meta":              {Map: func(s *store.Service) map[string]string { return s.Meta }},
		"Port":              {Int: func(s *store.Service) int { return s.Port }},
		"SocketPath":        {Str: func(s *store.Service) string { return s.SocketPath }},
		"Weights.Passing":   {Int: func(s *store.Service) int { return s.Weights.Passing }},
		"Weights.Warning":   {Int: func(s *store.Service) int { return s.Weights.Warning }},
		"EnableTagOverride": {Bool: func(s *store.Service) bool { return s.EnableTagOverride }},
		"Connect.Native":    {Bool: func(s *store.Service) bool { return native(s.Connect) }},
	}
}

// Checks is the schema of a health check.
func Checks() Schema[*store.Check] {
	return Schema[*store.Check]{
		"Node":        {Str: func(c *store.Check) string { return c.Node }},
		"CheckID":     {Str: func(c *store.Check) string { return c.CheckID }},
		"Name":        {Str: func(c *store.Check) string { return c.Name }},
		"Status":      {Str: func(c *store.Check) string { return c.Status }},
		"Notes":       {Str: func(c *store.Check) string { return c.Notes }},
		"Output":      {Str: func(c *store.Check) string { return c.Output }},
		"ServiceID":   {Str: func(c *store.Check) string { return c.ServiceID }},
		"ServiceName": {Str: func(c *store.Check) string { return c.ServiceName }},
		"ServiceTags": {List: func(c *store.Check) []string { return c.ServiceTags }},
		"Type":        {Str: func(c *store.Check) string { return c.Type }},
		"Interval":    {Str: func(c *store.Check) string { return c.Interval }},
		"Timeout":     {Str: func(c *store.Check) string { return c.Timeout }},
		"ExposedPort": {Int: func(c *store.Check) int { return c.ExposedPort }},
	}
}

// CatalogServices is the schema of an instance as the catalog lists it: one flat
// object with its node.
func CatalogServices() Schema[store.ServiceInstance] {
	s := make(Schema[store.ServiceInstance])
	node := func(i store.ServiceInstance) *store.Node { return i.Node }
	service := func(i store.ServiceInstance) *store.Service { return i.Service }
	Embed(s, "", Nodes(), node)
	s["NodeMeta"] = s["Meta"]
	delete(s, "Meta")
	for name, f := range Services() {
		flat := "Service" + name
		switch name {
		case "Service":
			flat = "ServiceName"
		}
		Embed(s, "", Schema[*store.Service]{flat: f}, service)
	}
	return s
}

// Instances is the schema of an element of a health answer.
func Instances() Schema[store.ServiceInstance] {
	s := make(Schema[store.ServiceInstance])
	Embed(s, "Node.", Nodes(), func(i store.ServiceInstance) *store.Node { return i.Node })
	Embed(s, "Service.", Services(), func(i store.ServiceInstance) *store.Service { return i.Service })
	s["Checks"] = Rows(Checks(), func(i store.ServiceInstance) []*store.Check { return i.Checks })
	return s
}

// native reads the one member of the Connect block that can be selected.
func native(block json.RawMessage) bool {
	if len(block) == 0 {
		return false
	}
	var b struct{ Native bool }
	return json.Unmarshal(block, &b) == nil && b.Native
}
