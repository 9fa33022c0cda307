package httpapi

import (
	"slices"
	"strings"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Some reads are of things that no write of this version can make: config
// entries, intentions, the services of gateways, peerings, services imported from
// a peer. Lists of them are empty, which is the truth, so that tools that read
// them beside other things go on. What would decide something by them (may A talk
// to B?) is refused instead: see unbuiltFamilies.

// nothings are the reads among unbuiltFamilies that are answered.
var nothings = map[string]handler{
	"/v1/config/":                    (*call).configRead,
	"/v1/connect/intentions":         noRows(false),
	"/v1/connect/intentions/exact":   (*call).noIntention,
	"/v1/health/ingress/":            (*call).healthIngress,
	"/v1/catalog/gateway-services/":  (*call).gatewayServices,
	"/v1/exported-services":          noRows(false),
	"/v1/internal/federation-states": noRows(false),
	"/v1/peerings":                   noRows(false),
}

func noRows(effective bool) handler {
	return func(c *call) error { return c.nothing(effective, "[]") }
}

// nothing answers body, in the datacenter asked for, with its consistency and its
// index. A caller that waits for a change is kept waiting.
func (c *call) nothing(effective bool, body string) error {
	if err := c.followNothing(effective); err != nil {
		return err
	}
	c.json(200, []byte(body))
	return nil
}

// followNothing reads the instances of the service without a name, which nothing
// can register, and sets the headers of the answer.
func (c *call) followNothing(effective bool) error {
	req := c.request(rpc.CatalogServiceNodes)
	if err := c.query(req, effective); err != nil {
		return err
	}
	req.Filter = "" // it selects by the fields of something else
	resp, err := c.s.cfg.Do.Do(c.r.Context(), req)
	if err != nil {
		c.indexed = true
		return err
	}
	c.indexHeaders(resp, effective)
	return nil
}

// noneOf is the empty answer of each read that takes ?peer.
func noneOf(method rpc.MethodID) string {
	switch method {
	case rpc.CatalogServices:
		return "{}"
	case rpc.CatalogNodeServices:
		return "null"
	case rpc.CatalogNodeServiceList:
		return `{"Node":null,"Services":null}`
	}
	return "[]"
}

// configKinds are the kinds of config entries of the interface.
var configKinds = []string{
	"api-gateway", "bound-api-gateway", "control-plane-request-limit", "exported-services", "file-system-certificate",
	"http-route", "ingress-gateway", "inline-certificate", "jwt-provider", "mesh", "proxy-defaults", "sameness-group",
	"service-defaults", "service-intentions", "service-resolver", "service-router", "service-splitter", "tcp-route",
	"terminating-gateway",
}

func (c *call) configRead() error {
	kind, name, one := strings.Cut(c.rest, "/")
	if kind != "" && !slices.Contains(configKinds, kind) {
		return store.Errorf(store.KindInvalid, "invalid config entry kind: %s", kind)
	}
	if !one || name == "" {
		return c.nothing(false, "[]")
	}
	return c.missing("Config entry not found for %q / %q", kind, name)
}

// missing answers 404 with the index to wait from.
func (c *call) missing(format string, args ...any) error {
	if err := c.followNothing(false); err != nil {
		return err
	}
	return store.Errorf(store.KindNotFound, format, args...)
}

func (c *call) noIntention() error { return c.missing("Intention not found") }

func (c *call) healthIngress() error   { return c.named("service name", true) }
func (c *call) gatewayServices() error { return c.named("gateway name", true) }

func (c *call) named(needs string, effective bool) error {
	if c.rest == "" {
		return badRequest("Missing %s", needs)
	}
	return c.nothing(effective, "[]")
}
