package httpapi

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"landbridge/forwarding/endpoint/filter"
	"landbridge/lan/agent"
	"landbridge/store"
	"landbridge/store/acl"
)

// localServices is what ?filter of agent/services can select.
func localServices() filter.Schema[*agent.Service] {
	return filter.Schema[*agent.Service]{
		"Kind":              {Str: func(s *agent.Service) string { return s.Kind }},
		"ID":                {Str: func(s *agent.Service) string { return s.ID }},
		"Service":           {Str: func(s *agent.Service) string { return s.Service }},
		"Tags":              {List: func(s *agent.Service) []string { return s.Tags }},
		"Meta":              {Map: func(s *agent.Service) map[string]string { return s.Meta }},
		"Port":              {Int: func(s *agent.Service) int { return s.Port }},
		"Address":           {Str: func(s *agent.Service) string { return s.Address }},
		"SocketPath":        {Str: func(s *agent.Service) string { return s.SocketPath }},
		"TaggedAddresses":   {Addrs: func(s *agent.Service) map[string]store.ServiceAddress { return s.TaggedAddresses }},
		"Weights.Passing":   {Int: func(s *agent.Service) int { return s.Weights.Passing }},
		"Weights.Warning":   {Int: func(s *agent.Service) int { return s.Weights.Warning }},
		"EnableTagOverride": {Bool: func(s *agent.Service) bool { return s.EnableTagOverride }},
	}
}

// filtered drops the entries of a map that do not match.
func filtered[T any](m map[string]T, expr string, schema func() filter.Schema[T]) (map[string]T, error) {
	if expr == "" {
		return m, nil
	}
	match, err := filter.Compile(expr, schema())
	if err != nil {
		return nil, err
	}
	for id, v := range m {
		if !match(v) {
			delete(m, id)
		}
	}
	return m, nil
}

func (c *call) agentServices() error {
	m, err := filtered(visible(c, c.s.cfg.Local.Services(), c.mayReadLocal), c.p.filter, localServices)
	if err != nil {
		return err
	}
	return c.encode(http.StatusOK, m)
}

// agentService answers with one service; with ?hash it waits until the service
// has another hash.
func (c *call) agentService() error {
	if !c.p.has(fHash) || c.p.hash == "" {
		svc, err := c.s.cfg.Local.Service(c.rest)
		if err != nil {
			return err
		}
		return c.showService(svc)
	}
	wait := c.s.cfg.DefaultQueryTime
	if c.p.wait != "" {
		d, err := time.ParseDuration(c.p.wait)
		if err != nil {
			return badRequest("Invalid wait time")
		}
		if d != 0 {
			wait = d
		}
	}
	wait = min(max(wait, 0), c.s.cfg.MaxQueryTime)
	ctx, cancel := context.WithTimeout(c.r.Context(), wait+rand.N(wait/16+1))
	defer cancel()
	svc, err := c.s.cfg.Local.WaitService(ctx, c.rest, c.p.hash)
	if err == nil {
		err = c.guarded(c.ep.guard) // who asks may be nobody by now
	}
	if err != nil {
		return err
	}
	return c.showService(svc)
}

func (c *call) showService(svc *agent.Service) error {
	if err := c.who.Check(acl.Service, svc.Service, acl.Read); err != nil {
		return err
	}
	c.w.Header()[hContentHash] = []string{svc.ContentHash}
	return c.encode(http.StatusOK, svc)
}

func (c *call) agentServiceRegister() error {
	buf, err := c.jsonBody()
	if err != nil {
		return err
	}
	defer putBuffer(buf)
	def, err := agent.DecodeService(buf.Bytes())
	if err != nil {
		return err
	}
	replace := c.p.has(fReplaceChecks) && (c.p.replaceChecks == "" || c.p.replaceChecks == "true")
	if err := c.mayRegister(def); err != nil {
		return err
	}
	if err := c.s.cfg.Local.AddService(c.r.Context(), def, replace); err != nil {
		return err
	}
	return c.done()
}

func (c *call) agentServiceDeregister() error {
	if err := c.mayWriteLocal(c.rest); err != nil {
		return err
	}
	if err := c.s.cfg.Local.RemoveService(c.r.Context(), c.rest); err != nil {
		return err
	}
	return c.done()
}

func (c *call) agentServiceMaintenance() error {
	if c.rest == "" {
		return badRequest("Missing service ID")
	}
	on, err := c.enabled()
	if err != nil {
		return err
	}
	if err := c.mayWriteLocal(c.rest); err != nil {
		return err
	}
	if on {
		err = c.s.cfg.Local.EnableServiceMaintenance(c.r.Context(), c.rest, c.p.reason)
	} else {
		err = c.s.cfg.Local.DisableServiceMaintenance(c.r.Context(), c.rest)
	}
	if err != nil {
		return err
	}
	return c.done()
}

// healthStatus is the status code that carries an aggregate: load balancers look
// at nothing else.
func healthStatus(aggregate string) int {
	switch aggregate {
	case store.Passing:
		return http.StatusOK
	case store.Warning:
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// serviceHealth is agent.ServiceHealth as it is shown.
type serviceHealth struct {
	AggregatedStatus string
	Service          *agent.Service
	Checks           []rawJSON
}

// rawJSON is a fragment that is JSON already.
type rawJSON []byte

func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

func shown(h agent.ServiceHealth) serviceHealth {
	out := serviceHealth{AggregatedStatus: h.AggregatedStatus, Service: h.Service, Checks: []rawJSON{}}
	for _, k := range h.Checks {
		out.Checks = append(out.Checks, k.JSON())
	}
	return out
}

// health answers an agent health request: as text, or as the object.
func (c *call) health(status int, text string, v any) error {
	c.w.Header()[hReason] = []string{text}
	if c.p.format == "text" {
		c.send(status, typeText, []byte(text))
		return nil
	}
	return c.encode(status, v)
}

func (c *call) agentHealthByName() error {
	if c.rest == "" {
		return store.Errorf(store.KindInvalid, "Missing service Name")
	}
	if err := c.who.Check(acl.Service, c.rest, acl.Read); err != nil {
		return err
	}
	status, list := c.s.cfg.Local.ServiceHealthByName(c.rest)
	if len(list) == 0 {
		return c.health(http.StatusNotFound, "ServiceName "+c.rest+" Not Found", []serviceHealth{})
	}
	all := make([]serviceHealth, len(list))
	for i := range list {
		all[i] = shown(list[i])
	}
	return c.health(healthStatus(status), status, all)
}

func (c *call) agentHealthByID() error {
	if c.rest == "" {
		return store.Errorf(store.KindInvalid, "Missing serviceID")
	}
	h, ok := c.s.cfg.Local.ServiceHealthByID(c.rest)
	if !ok {
		return c.health(http.StatusNotFound, "ServiceId "+c.rest+" not found", serviceHealth{AggregatedStatus: store.Critical})
	}
	if err := c.who.Check(acl.Service, h.Service.Service, acl.Read); err != nil {
		return err
	}
	return c.health(healthStatus(h.AggregatedStatus), h.AggregatedStatus, shown(h))
}

func (c *call) agentChecks() error {
	m, err := filtered(visible(c, c.s.cfg.Local.Checks(), c.mayReadCheck), c.p.filter, filter.Checks)
	if err != nil {
		return err
	}
	out := make(map[string]rawJSON, len(m))
	for id, k := range m {
		out[id] = k.JSON()
	}
	return c.encode(http.StatusOK, out)
}

func (c *call) agentCheckRegister() error {
	buf, err := c.jsonBody()
	if err != nil {
		return err
	}
	defer putBuffer(buf)
	def, err := agent.DecodeCheck(buf.Bytes())
	if err != nil {
		return err
	}
	if err := c.mayRegisterCheck(def); err != nil {
		return err
	}
	if err := c.s.cfg.Local.AddCheck(c.r.Context(), def); err != nil {
		return err
	}
	return c.done()
}

func (c *call) agentCheckDeregister() error {
	if err := c.mayWriteCheck(c.rest); err != nil {
		return err
	}
	if err := c.s.cfg.Local.RemoveCheck(c.r.Context(), c.rest); err != nil {
		return err
	}
	return c.done()
}

func (c *call) agentCheckPass() error { return c.updateTTL(store.Passing, c.p.note) }
func (c *call) agentCheckWarn() error { return c.updateTTL(store.Warning, c.p.note) }
func (c *call) agentCheckFail() error { return c.updateTTL(store.Critical, c.p.note) }

func (c *call) agentCheckUpdate() error {
	var b struct{ Status, Output string }
	if err := c.decode(&b); err != nil {
		return err
	}
	return c.updateTTL(b.Status, b.Output)
}

func (c *call) updateTTL(status, output string) error {
	if err := c.mayWriteCheck(c.rest); err != nil {
		return err
	}
	if err := c.s.cfg.Local.UpdateTTL(c.rest, status, output); err != nil {
		return err
	}
	return c.done()
}
