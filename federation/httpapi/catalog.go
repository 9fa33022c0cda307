package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func (c *call) catalogDatacenters() error { return c.plain(c.local(rpc.CatalogDatacenters)) }

// local starts a request that only this datacenter answers, whatever ?dc says.
func (c *call) local(method rpc.MethodID) *rpc.Request {
	req := c.request(method)
	req.Datacenter = ""
	return req
}

func (c *call) catalogNodes() error    { return c.discover(rpc.CatalogNodes, "", "") }
func (c *call) catalogServices() error { return c.discover(rpc.CatalogServices, "", "") }
func (c *call) catalogService() error  { return c.discover(rpc.CatalogServiceNodes, "service name", "") }
func (c *call) catalogConnect() error  { return c.discover(rpc.CatalogConnectNodes, "service name", "") }
func (c *call) catalogNode() error     { return c.discover(rpc.CatalogNodeServices, "node name", "") }
func (c *call) catalogNodeServices() error {
	return c.discover(rpc.CatalogNodeServiceList, "node name", "")
}
func (c *call) healthNode() error    { return c.discover(rpc.HealthNode, "node name", "") }
func (c *call) healthChecks() error  { return c.discover(rpc.HealthChecks, "service name", "") }
func (c *call) healthState() error   { return c.discover(rpc.HealthState, "check state", "") }
func (c *call) healthService() error { return c.discover(rpc.HealthService, "service name", "passing") }
func (c *call) healthConnect() error { return c.discover(rpc.HealthConnect, "service name", "passing") }

// discover runs a read of the catalog. needs names the path element it cannot do
// without; passing says whether ?passing is one of its parameters.
func (c *call) discover(method rpc.MethodID, needs, passing string) error {
	if needs != "" && c.rest == "" {
		return badRequest("Missing %s", needs)
	}
	if c.p.has(fPeer) { // nothing is ever imported from a peer
		return c.nothing(true, noneOf(method))
	}
	req := c.request(method)
	if err := c.query(req, true); err != nil {
		return err
	}
	if c.p.sg != "" {
		return store.Errorf(store.KindInvalid, "sameness groups are not supported in consul CE")
	}
	req.Query.Name = c.rest
	req.Query.Tags = c.p.tags
	req.Query.NodeMeta = c.p.nodeMeta
	if passing != "" && c.p.has(fPassing) {
		switch c.p.passing {
		case "":
			req.Query.PassingOnly = true
		default:
			v, err := strconv.ParseBool(c.p.passing)
			if err != nil {
				return badRequest("Invalid value for ?passing")
			}
			req.Query.PassingOnly = v
		}
	}
	return c.read(req, true)
}

// The bodies of the catalog's writes. Unlike the agent's, they have no aliases.
type (
	registerBody struct {
		ID              string
		Node            string
		Address         string
		Datacenter      string
		TaggedAddresses map[string]string
		NodeMeta        map[string]string
		Service         *serviceBody
		Check           *checkBody
		Checks          []*checkBody
		SkipNodeUpdate  bool
	}
	serviceBody struct {
		Kind              string
		ID                string
		Service           string
		Tags              []string
		Address           string
		TaggedAddresses   map[string]store.ServiceAddress
		Meta              map[string]string
		Port              int
		SocketPath        string
		Weights           *store.Weights
		EnableTagOverride bool
		Proxy             json.RawMessage
		Connect           json.RawMessage
		Locality          json.RawMessage
		// Written by clients that send back what they read.
		PeerName                 string
		CreateIndex, ModifyIndex uint64
	}
	checkBody struct {
		Node        string
		CheckID     string
		Name        string
		Status      string
		Notes       string
		Output      string
		ServiceID   string
		ServiceName string
		ServiceTags []string
		Type        string
		Interval    string
		Timeout     string
		ExposedPort int
		Definition  *definitionBody
		// Written by clients that send back what they read.
		PeerName                 string
		CreateIndex, ModifyIndex uint64
	}
)

func (c *call) catalogRegister() error {
	var b registerBody
	if err := c.decode(&b); err != nil {
		return err
	}
	cmd := store.RegisterCommand{
		Node: store.Node{ID: b.ID, Node: b.Node, Address: b.Address, Datacenter: b.Datacenter,
			TaggedAddresses: b.TaggedAddresses, Meta: b.NodeMeta},
		SkipNodeUpdate: b.SkipNodeUpdate,
	}
	if b.Service != nil {
		cmd.Service = b.Service.record()
	}
	for _, k := range append([]*checkBody{b.Check}, b.Checks...) {
		if k == nil || k.empty() {
			continue
		}
		check, err := k.record()
		if err != nil {
			return err
		}
		cmd.Checks = append(cmd.Checks, check)
	}
	return c.applyIn(b.Datacenter, rpc.CatalogRegister, cmd.AppendWire(nil))
}

func (c *call) catalogDeregister() error {
	var b struct {
		Datacenter string
		Node       string
		ServiceID  string
		CheckID    string
		// Sent by the Go client.
		Address string
	}
	if err := c.decode(&b); err != nil {
		return err
	}
	cmd := store.DeregisterCommand{Node: b.Node, ServiceID: b.ServiceID, CheckID: b.CheckID}
	return c.applyIn(b.Datacenter, rpc.CatalogDeregister, cmd.AppendWire(nil))
}

// applyIn runs a write in the datacenter that the body names, which wins over ?dc.
func (c *call) applyIn(dc string, method rpc.MethodID, payload []byte) error {
	if dc != "" {
		c.p.dc = dc
	}
	return c.apply(method, payload)
}

func (s *serviceBody) record() *store.Service {
	svc := &store.Service{Kind: s.Kind, ID: s.ID, Name: s.Service, Tags: s.Tags, Address: s.Address,
		TaggedAddresses: s.TaggedAddresses, Meta: s.Meta, Port: s.Port, SocketPath: s.SocketPath,
		Weights: store.Weights{Passing: 1, Warning: 1}, EnableTagOverride: s.EnableTagOverride,
		Proxy: compact(s.Proxy), Connect: compact(s.Connect), Locality: compact(s.Locality)}
	if s.Weights != nil {
		svc.Weights = *s.Weights
	}
	return svc
}

// empty is whether the object says nothing: such a Check beside Checks is left out.
func (k *checkBody) empty() bool {
	return k.CheckID == "" && k.Name == "" && k.Status == "" && k.Notes == "" && k.Output == "" &&
		k.ServiceID == "" && k.Node == "" && k.Type == "" && k.Definition == nil
}

func (k *checkBody) record() (*store.Check, error) {
	check := &store.Check{Node: k.Node, CheckID: k.CheckID, Name: k.Name, Status: k.Status, Notes: k.Notes,
		Output: k.Output, ServiceID: k.ServiceID, ServiceName: k.ServiceName, ServiceTags: k.ServiceTags,
		Type: k.Type, Interval: k.Interval, Timeout: k.Timeout, ExposedPort: k.ExposedPort}
	if check.CheckID == "" {
		check.CheckID = check.Name
	}
	if check.Status == "" {
		check.Status = store.Critical
	}
	if k.Definition != nil {
		if check.Type == "" {
			check.Type = k.Definition.kind()
		}
		def, err := json.Marshal(k.Definition)
		if err != nil {
			return nil, errDecode(err)
		}
		if string(def) != "{}" {
			check.Definition = def
		}
	}
	return check, nil
}

func compact(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	b, err := json.Marshal(raw) // compacts; the decoder has found it valid
	if err != nil {
		return nil
	}
	return b
}

func (c *call) statusLeader() error { return c.plain(c.request(rpc.StatusLeader)) }
func (c *call) statusPeers() error  { return c.plain(c.request(rpc.StatusPeers)) }

func (c *call) connectRoots() error {
	if c.ep.path != "/v1/connect/ca/roots" {
		c.p.dc = "" // the agent's own datacenter
	}
	req := c.request(rpc.TrustRoots)
	if err := c.query(req, false); err != nil {
		return err
	}
	if c.r.URL.Query().Get("pem") == "true" {
		return c.rootsPEM(req)
	}
	return c.read(req, false)
}

// rootsPEM answers with the certificates alone, as programs of the TLS world
// like them.
func (c *call) rootsPEM(req *rpc.Request) error {
	resp, err := c.do(req)
	if err != nil {
		c.indexed = true
		return err
	}
	var roots struct {
		Roots []struct{ RootCert string }
	}
	if err := json.Unmarshal(resp.Body, &roots); err != nil {
		return store.Errorf(store.KindInternal, "reading the roots: %w", err)
	}
	c.indexHeaders(resp, false)
	var pem []byte
	for _, r := range roots.Roots {
		pem = append(pem, r.RootCert...)
	}
	c.send(http.StatusOK, []string{"application/pem-certificate-chain"}, pem)
	return nil
}
