package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"landbridge/store"
)

// The blocks of the service mesh are kept and shown as they were given. What is
// done with them here: their members get the names that readers look for, since
// files spell them in snake_case; a proxy must say what it speaks for; and a
// service that asks for a sidecar gets one registered beside it.

// ConnectProxy is the kind of a service that speaks for another in the mesh.
const ConnectProxy = "connect-proxy"

const (
	sidecarSuffix        = "-sidecar-proxy"
	sidecarCheckInterval = 10 * time.Second
)

// block is the shape of a JSON object as far as its members' names are ours: by
// folded name, its spelling and, if it is an object or a list of such, its shape.
// A member whose shape is nil is not looked into.
type block map[string]member

type member struct {
	name string
	in   block
	list bool
}

func blockOf(names string, nested ...member) block {
	b := make(block)
	for _, n := range append(memberList(names), nested...) {
		f := fold(n.name)
		b[string(f.bytes())] = n
	}
	return b
}

func memberList(names string) []member {
	var out []member
	for n := range strings.FieldsSeq(names) {
		out = append(out, member{name: n})
	}
	return out
}

// meshBlocks returns the shapes of Proxy, Connect and Locality.
func meshBlocks() (proxy, connect, locality block) {
	gateway := blockOf("Mode")
	proxy = blockOf("DestinationServiceName DestinationServiceID LocalServiceAddress LocalServicePort LocalServiceSocketPath Mode Config EnvoyExtensions",
		member{name: "MeshGateway", in: gateway},
		member{name: "TransparentProxy", in: blockOf("OutboundListenerPort DialedDirectly")},
		member{name: "AccessLogs", in: blockOf("Enabled DisableListenerLogs Type Path JSONFormat TextFormat")},
		member{name: "Expose", in: blockOf("Checks",
			member{name: "Paths", list: true, in: blockOf("ListenerPort Path LocalPathPort Protocol ParsedFromCheck")})},
		member{name: "Upstreams", list: true, in: blockOf("DestinationType DestinationName DestinationNamespace DestinationPartition DestinationPeer "+
			"Datacenter LocalBindAddress LocalBindPort LocalBindSocketPath LocalBindSocketMode Config CentrallyConfigured",
			member{name: "MeshGateway", in: gateway})},
	)
	locality = blockOf("Region Zone")
	sidecar := blockOf("ID Name Kind Tags Meta Port Address SocketPath TaggedAddresses EnableTagOverride Weights Token Check Checks",
		member{name: "Proxy", in: proxy}, member{name: "Locality", in: locality})
	return proxy, blockOf("Native", member{name: "SidecarService", in: sidecar}), locality
}

// named returns raw with the members of b spelled as readers know them, and with
// lists where lists belong. Without a change it is raw itself.
func (b block) named(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return raw, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	v, changed := b.rename(v)
	if !changed {
		return raw, nil
	}
	return json.Marshal(v)
}

func (b block) rename(v any) (_ any, changed bool) {
	if list, ok := v.([]any); ok && len(list) == 1 { // a block of the file format
		v, changed = list[0], true
	}
	m, ok := v.(map[string]any)
	if !ok || b == nil {
		return v, changed
	}
	out := make(map[string]any, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f := fold(k)
		as, known := b[string(f.bytes())]
		e := m[k]
		if !known {
			out[k] = e
			continue
		}
		changed = changed || as.name != k
		if as.in != nil {
			again := false
			if e, again = as.value(e); again {
				changed = true
			}
		}
		out[as.name] = e
	}
	return out, changed
}

func (m member) value(v any) (any, bool) {
	if !m.list {
		return m.in.rename(v)
	}
	list, ok := v.([]any)
	if !ok {
		if v == nil {
			return v, false
		}
		list = []any{v}
	}
	changed := !ok
	for i := range list {
		e, again := m.in.rename(list[i])
		list[i], changed = e, changed || again
	}
	return list, changed
}

// normalizeMesh names the members of the mesh blocks and checks that a proxy has
// what it needs.
func normalizeMesh(d *ServiceDefinition) error {
	proxy, connect, locality := meshBlocks()
	for _, b := range []struct {
		name string
		of   block
		raw  *json.RawMessage
	}{{"Proxy", proxy, &d.Proxy}, {"Connect", connect, &d.Connect}, {"Locality", locality, &d.Locality}} {
		raw, err := b.of.named(*b.raw)
		if err != nil {
			return store.Errorf(store.KindBadRequest, "Invalid %s: %w", b.name, err)
		}
		*b.raw = raw
	}
	if d.Kind != ConnectProxy {
		return nil
	}
	var p struct{ DestinationServiceName string }
	if len(d.Proxy) > 0 {
		if err := json.Unmarshal(d.Proxy, &p); err != nil {
			return store.Errorf(store.KindBadRequest, "Invalid Proxy: %w", err)
		}
	}
	var wrong []string
	if p.DestinationServiceName == "" {
		wrong = append(wrong, "Proxy.DestinationServiceName must be non-empty for Connect proxy services")
	}
	if d.Port == 0 && d.SocketPath == "" {
		wrong = append(wrong, "Port or SocketPath must be set for a Connect proxy")
	}
	switch len(wrong) {
	case 0:
		return nil
	case 1:
		return store.Errorf(store.KindBadRequest, "Validation failed: 1 error occurred:\n\t* %s\n\n", wrong[0])
	}
	return store.Errorf(store.KindBadRequest, "Validation failed: %d errors occurred:\n\t* %s\n\n", len(wrong), strings.Join(wrong, "\n\t* "))
}

// sidecarOf returns the definition of the sidecar that a normalised service asks
// for, nil if it does not. Its port may be 0, and its checks missing: finishSidecar
// knows which ports are free.
func sidecarOf(d *ServiceDefinition) (*ServiceDefinition, error) {
	if len(d.Connect) == 0 {
		return nil, nil
	}
	var c struct{ SidecarService json.RawMessage }
	if err := json.Unmarshal(d.Connect, &c); err != nil {
		return nil, store.Errorf(store.KindBadRequest, "Invalid Connect: %w", err)
	}
	if len(c.SidecarService) == 0 || string(c.SidecarService) == "null" {
		return nil, nil
	}
	s, err := decoder{lenient: true}.service(c.SidecarService)
	if err != nil {
		return nil, store.Errorf(store.KindBadRequest, "Invalid sidecar: %w", err)
	}
	id := d.ID + sidecarSuffix
	switch {
	case s.ID != "" && s.ID != id:
		return nil, store.Errorf(store.KindBadRequest, "Invalid sidecar: its ID is always %q, not %q", id, s.ID)
	case s.Kind != "" && s.Kind != ConnectProxy:
		return nil, store.Errorf(store.KindBadRequest, "Invalid sidecar: its Kind is always %q, not %q", ConnectProxy, s.Kind)
	case len(s.Connect) > 0:
		return nil, store.Errorf(store.KindBadRequest, "Invalid sidecar: it cannot have a Connect block of its own")
	}
	s.ID, s.Kind, s.SidecarOf = id, ConnectProxy, d.ID
	if s.Name == "" {
		s.Name = d.Name + sidecarSuffix
	}
	if s.Tags == nil {
		s.Tags = slices.Clone(d.Tags)
	}
	if s.Meta == nil {
		s.Meta = maps.Clone(d.Meta)
	}
	if s.Address == "" {
		s.Address = d.Address
	}
	if s.Token == "" {
		s.Token = d.Token
	}
	if s.Locality == nil {
		s.Locality = d.Locality
	}
	s.Proxy, err = sidecarProxy(s.Proxy, d)
	return s, err
}

// sidecarProxy completes a sidecar's Proxy block: it speaks for d, beside it.
func sidecarProxy(given json.RawMessage, d *ServiceDefinition) (json.RawMessage, error) {
	shape, _, _ := meshBlocks()
	given, err := shape.named(given)
	p := make(map[string]any)
	if err == nil && len(given) > 0 {
		err = json.Unmarshal(given, &p)
	}
	if err != nil {
		return nil, store.Errorf(store.KindBadRequest, "Invalid sidecar: Proxy: %w", err)
	}
	for k, v := range map[string]any{"DestinationServiceName": d.Name, "DestinationServiceID": d.ID} {
		if have, ok := p[k]; ok && have != "" && have != v {
			return nil, store.Errorf(store.KindBadRequest, "Invalid sidecar: Proxy.%s is always %q, not %q", k, v, have)
		}
		p[k] = v
	}
	if _, socket := p["LocalServiceSocketPath"]; !socket {
		if _, ok := p["LocalServiceAddress"]; !ok {
			p["LocalServiceAddress"] = "127.0.0.1"
		}
		if _, ok := p["LocalServicePort"]; !ok && d.Port > 0 {
			p["LocalServicePort"] = d.Port
		}
	}
	return json.Marshal(p)
}

// finishSidecar gives a sidecar its port, the one it has or the first that no
// service here uses, and its checks, and normalises it. used holds ports that are
// about to be taken.
func (a *Agent) finishSidecar(s *ServiceDefinition, from Source, used map[int]bool) (*ServiceDefinition, error) {
	if s.Port == 0 {
		port, err := a.sidecarPort(s, used)
		if err != nil {
			return nil, err
		}
		s.Port = port
	}
	used[s.Port] = true
	if len(s.Checks) == 0 {
		host := s.Address
		if host == "" {
			host = "127.0.0.1"
		}
		s.Checks = []*CheckDefinition{
			{Name: "Connect Sidecar Listening", TCP: hostPort(host, s.Port), Interval: Duration(sidecarCheckInterval)},
			{Name: "Connect Sidecar Aliasing " + s.SidecarOf, AliasService: s.SidecarOf},
		}
	}
	return a.normalizeService(s, from)
}

func hostPort(host string, port int) string {
	if strings.Contains(host, ":") {
		return fmt.Sprintf("[%s]:%d", host, port)
	}
	return fmt.Sprintf("%s:%d", host, port)
}

func (a *Agent) sidecarPort(s *ServiceDefinition, used map[int]bool) (int, error) {
	low, high := a.cfg.SidecarMinPort, a.cfg.SidecarMaxPort
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := maps.Clone(used)
	for _, e := range a.services {
		if e.deleted {
			continue
		}
		if e.record.ID == s.ID {
			if p := e.record.Port; p >= low && p <= high && !used[p] {
				return p, nil
			}
			continue
		}
		taken[e.record.Port] = true
	}
	for p := low; p <= high && low > 0; p++ {
		if !taken[p] {
			return p, nil
		}
	}
	return 0, store.Errorf(store.KindInvalid, "no free port for the sidecar of service %q between %d and %d (ports.sidecar_min_port, ports.sidecar_max_port)", s.SidecarOf, low, high)
}

// Sidecar returns the name and id of the sidecar that the service asks for, "" if
// it asks for none: what may be registered is decided by both names.
func (d *ServiceDefinition) Sidecar() (name, id string, err error) {
	with := *d
	if with.ID == "" {
		with.ID = with.Name
	}
	s, err := sidecarOf(&with)
	if s == nil || err != nil {
		return "", "", err
	}
	return s.Name, s.ID, nil
}
