package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"landbridge/store"
)

// catalogModel is the catalog as three maps, with the rules of spec
// http-catalog-health 2 written out.
type catalogModel struct {
	nodes    map[string]*store.Node
	services map[[2]string]*store.Service
	checks   map[[2]string]*store.Check
	index    store.Index
}

func newCatalogModel() *catalogModel {
	return &catalogModel{make(map[string]*store.Node), make(map[[2]string]*store.Service), make(map[[2]string]*store.Check), firstIndex}
}

func (m *catalogModel) register(c *store.RegisterCommand) error {
	m.index++
	if err := c.Prepare(); err != nil {
		return err
	}
	key := strings.ToLower(c.Node.Node)
	named := m.nodes[key]
	oldKey := ""
	if named == nil || !c.SkipNodeUpdate {
		if c.Node.ID != "" {
			for k, n := range m.nodes {
				if n.ID == c.Node.ID && k != key {
					oldKey = k
				}
			}
			serf := m.checks[[2]string{key, store.SerfHealth}]
			if named != nil && named.ID != "" && named.ID != c.Node.ID && serf != nil && serf.Status != store.Critical {
				return fmt.Errorf("failed inserting node: Error while renaming Node ID: %q: Node name %s is reserved by node %s with name %s (%s)",
					c.Node.ID, c.Node.Node, named.ID, named.Node, named.Address)
			}
		} else if named != nil {
			c.Node.ID = named.ID
		}
	}
	for _, k := range c.Checks {
		_, have := m.services[[2]string{key, k.ServiceID}]
		if k.ServiceID != "" && !have && (c.Service == nil || c.Service.ID != k.ServiceID) {
			return fmt.Errorf("Unknown service ID '%s' for check ID '%s'", k.ServiceID, k.CheckID)
		}
	}
	if oldKey != "" {
		m.removeNode(oldKey)
	}
	node := named
	if named == nil || !c.SkipNodeUpdate {
		node = c.Node.Clone()
		node.CreateIndex, node.ModifyIndex = m.index, m.index
		if named != nil {
			node.Node, node.CreateIndex = named.Node, named.CreateIndex
		}
		if named == nil || !sameNode(named, node) {
			m.nodes[key] = node
		}
	}
	if c.Service != nil {
		svc := c.Service.Clone()
		svc.Node = node.Node
		id := [2]string{key, svc.ID}
		if old := m.services[id]; old == nil || !sameService(old, svc) {
			svc.CreateIndex, svc.ModifyIndex = m.index, m.index
			if old != nil {
				svc.CreateIndex = old.CreateIndex
			}
			m.services[id] = svc
			for _, k := range m.checks {
				if strings.ToLower(k.Node) == key && k.ServiceID == svc.ID {
					m.putCheck(key, k)
				}
			}
		}
	}
	for _, k := range c.Checks {
		k.Node = node.Node
		m.putCheck(key, k)
	}
	return nil
}

func (m *catalogModel) putCheck(node string, k *store.Check) {
	k = k.Clone()
	k.ServiceName, k.ServiceTags = "", nil
	if k.ServiceID != "" {
		svc := m.services[[2]string{node, k.ServiceID}]
		k.ServiceName, k.ServiceTags = svc.Name, svc.Tags
	}
	id := [2]string{node, k.CheckID}
	old := m.checks[id]
	if old != nil && sameCheck(old, k) {
		return
	}
	k.CreateIndex, k.ModifyIndex = m.index, m.index
	if old != nil {
		k.CreateIndex = old.CreateIndex
	}
	m.checks[id] = k
}

func (m *catalogModel) removeNode(key string) {
	delete(m.nodes, key)
	maps.DeleteFunc(m.services, func(id [2]string, _ *store.Service) bool { return id[0] == key })
	maps.DeleteFunc(m.checks, func(id [2]string, _ *store.Check) bool { return id[0] == key })
}

func (m *catalogModel) deregister(c *store.DeregisterCommand) {
	m.index++
	key := strings.ToLower(c.Node)
	switch {
	case c.ServiceID != "":
		delete(m.services, [2]string{key, c.ServiceID})
		maps.DeleteFunc(m.checks, func(id [2]string, k *store.Check) bool { return id[0] == key && k.ServiceID == c.ServiceID })
	case c.CheckID != "":
		delete(m.checks, [2]string{key, c.CheckID})
	default:
		m.removeNode(key)
	}
}

func sortedBy[V any](m map[[2]string]V) []V {
	ids := slices.SortedFunc(maps.Keys(m), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	list := make([]V, 0, len(ids))
	for _, id := range ids {
		list = append(list, m[id])
	}
	return list
}

// answer renders rows with their indexes: two answers are equal if no row of
// theirs was written.
type answer struct {
	index store.Index
	rows  string
}

func render[R store.JSONRow](rows ...R) string { return string(store.AppendJSONList(nil, rows)) }

func renderInstances(list []store.ServiceInstance, checks bool) string {
	var b []byte
	for _, i := range list {
		if !checks {
			i.Checks = nil
		}
		b = append(i.AppendJSON(b), '\n')
	}
	return string(b)
}

var (
	modelNodes    = []string{"n1", "N1", "n2", "n3"}
	modelIDs      = []string{"", uuid("aaaa1"), uuid("aaaa2"), uuid("bbbb1")}
	modelServices = []string{"web", "WEB", "db"}
	modelStatus   = []string{store.Passing, store.Warning, store.Critical}
)

// reads are all queries of the catalog, each as a function of the store and as
// one of the model.
func catalogReads() map[string][2]func(*Store, *Watch, *catalogModel) answer {
	reads := make(map[string][2]func(*Store, *Watch, *catalogModel) answer)
	add := func(name string, got func(*Store, *Watch) answer, want func(*catalogModel) string) {
		reads[name] = [2]func(*Store, *Watch, *catalogModel) answer{
			func(s *Store, w *Watch, _ *catalogModel) answer { return got(s, w) },
			func(_ *Store, _ *Watch, m *catalogModel) answer { return answer{rows: want(m)} },
		}
	}
	add("nodes", func(s *Store, w *Watch) answer {
		i, l := s.Nodes(w)
		return answer{i, render(l...)}
	}, func(m *catalogModel) string {
		var l []*store.Node
		for _, k := range slices.Sorted(maps.Keys(m.nodes)) {
			l = append(l, m.nodes[k])
		}
		return render(l...)
	})
	add("services", func(s *Store, w *Watch) answer {
		i, names := s.Services(w)
		_, l := s.AllInstances(nil)
		var rows []*store.Service
		want := make(map[string][]string)
		for _, e := range l {
			rows = append(rows, e.Service)
			n := strings.ToLower(e.Service.Name)
			want[n] = append(want[n], e.Service.Tags...)
		}
		for _, n := range names {
			tags := want[strings.ToLower(n.Name)]
			slices.Sort(tags)
			if !slices.Equal(slices.Compact(tags), n.Tags) {
				return answer{i, fmt.Sprintf("tags of %s: %q, want %q", n.Name, n.Tags, tags)}
			}
			delete(want, strings.ToLower(n.Name))
		}
		if len(want) > 0 {
			return answer{i, fmt.Sprintf("names missing: %v", want)}
		}
		return answer{i, render(rows...)}
	}, func(m *catalogModel) string { return render(sortedBy(m.services)...) })
	for _, name := range []string{"web", "Db", "none"} {
		instances := func(m *catalogModel, checks bool) string {
			var l []store.ServiceInstance
			for _, svc := range sortedBy(m.services) {
				if !strings.EqualFold(svc.Name, name) {
					continue
				}
				i := store.ServiceInstance{Node: m.nodes[strings.ToLower(svc.Node)], Service: svc}
				for _, ofNode := range []bool{true, false} {
					for _, k := range sortedBy(m.checks) {
						if strings.EqualFold(k.Node, svc.Node) && (ofNode && k.ServiceID == "" || !ofNode && k.ServiceID == svc.ID) {
							i.Checks = append(i.Checks, k)
						}
					}
				}
				l = append(l, i)
			}
			return renderInstances(l, checks)
		}
		add("service "+name, func(s *Store, w *Watch) answer {
			i, l := s.ServiceNodes(w, name)
			return answer{i, renderInstances(l, false)}
		}, func(m *catalogModel) string { return instances(m, false) })
		add("health "+name, func(s *Store, w *Watch) answer {
			i, l := s.ServiceInstances(w, name)
			return answer{i, renderInstances(l, true)}
		}, func(m *catalogModel) string { return instances(m, true) })
		add("checks of "+name, func(s *Store, w *Watch) answer {
			i, l := s.ServiceChecks(w, name)
			return answer{i, render(l...)}
		}, func(m *catalogModel) string {
			var l []*store.Check
			for _, k := range sortedBy(m.checks) {
				if strings.EqualFold(k.ServiceName, name) {
					l = append(l, k)
				}
			}
			return render(l...)
		})
	}
	for _, name := range []string{"n1", "N2", "n3", "none"} {
		key := strings.ToLower(name)
		add("node "+name, func(s *Store, w *Watch) answer {
			i, n, l := s.NodeServices(w, name)
			if n == nil {
				return answer{i, ""}
			}
			return answer{i, render(n) + render(l...)}
		}, func(m *catalogModel) string {
			var l []*store.Service
			for _, svc := range sortedBy(m.services) {
				if strings.ToLower(svc.Node) == key {
					l = append(l, svc)
				}
			}
			if m.nodes[key] == nil {
				return ""
			}
			return render(m.nodes[key]) + render(l...)
		})
		add("checks on "+name, func(s *Store, w *Watch) answer {
			i, l := s.NodeChecks(w, name)
			return answer{i, render(l...)}
		}, func(m *catalogModel) string {
			var l []*store.Check
			for _, k := range sortedBy(m.checks) {
				if strings.ToLower(k.Node) == key {
					l = append(l, k)
				}
			}
			return render(l...)
		})
	}
	for _, st := range append(slices.Clone(modelStatus), store.AnyStatus, "odd") {
		add("state "+st, func(s *Store, w *Watch) answer {
			i, l := s.ChecksInState(w, st)
			return answer{i, render(l...)}
		}, func(m *catalogModel) string {
			var l []*store.Check
			for _, k := range sortedBy(m.checks) {
				if st == store.AnyStatus || k.Status == st {
					l = append(l, k)
				}
			}
			return render(l...)
		})
	}
	return reads
}

func genRegister(t *rapid.T) *store.RegisterCommand {
	c := &store.RegisterCommand{
		Node: store.Node{
			Node:    rapid.SampledFrom(modelNodes).Draw(t, "node"),
			ID:      rapid.SampledFrom(modelIDs).Draw(t, "id"),
			Address: rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.1", "10.0.0.2"}).Draw(t, "address"),
		},
		SkipNodeUpdate: rapid.Bool().Draw(t, "skip"),
	}
	if rapid.Bool().Draw(t, "service?") {
		c.Service = &store.Service{
			ID:   rapid.SampledFrom([]string{"", "s1", "s2"}).Draw(t, "service id"),
			Name: rapid.SampledFrom(modelServices).Draw(t, "service"),
			Port: rapid.IntRange(0, 1).Draw(t, "port"),
		}
		if rapid.Bool().Draw(t, "tag?") {
			c.Service.Tags = []string{"t"}
		}
	}
	// Distinct ids: a check written twice by one command may pass through a state
	// that no reader sees, and wake its watch.
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{store.SerfHealth, "c1", "c2"}), 0, 2, rapid.ID[string]).Draw(t, "checks")
	for _, id := range ids {
		c.Checks = append(c.Checks, &store.Check{
			CheckID:   id,
			ServiceID: rapid.SampledFrom([]string{"", "", "s1", "s2", "web"}).Draw(t, "of"),
			Status:    rapid.SampledFrom(modelStatus).Draw(t, "status"),
		})
	}
	return c
}

// The catalog must answer like the maps. An answer's index must never go down,
// and must rise when the answer changes; a watch must fire exactly then.
func TestCatalogModel(t *testing.T) {
	reads := catalogReads()
	rapid.Check(t, func(t *rapid.T) {
		s, m := New(), newCatalogModel()
		last := make(map[string]answer)
		for name, q := range reads {
			last[name] = q[0](s, nil, nil)
		}
		step := func(t *rapid.T, do func()) {
			watches := make(map[string]*Watch)
			for name, q := range reads {
				watches[name] = s.NewWatch()
				q[0](s, watches[name], nil)
			}
			do()
			for name, q := range reads {
				w := watches[name]
				woken := fired(w)
				w.Close()
				got, want, before := q[0](s, nil, nil), q[1](nil, nil, m), last[name]
				if got.rows != want.rows {
					t.Fatalf("%s:\ngot  %s\nwant %s", name, got.rows, want.rows)
				}
				changed := got.rows != before.rows
				if woken != changed {
					t.Fatalf("%s: woken %v, changed %v:\n%s\n%s", name, woken, changed, before.rows, got.rows)
				}
				if got.index < before.index || changed && got.index <= before.index {
					t.Fatalf("%s: changed %v, index from %d to %d", name, changed, before.index, got.index)
				}
				last[name] = got
			}
			if n := s.Counts().Watches; n != 0 {
				t.Fatalf("%d registrations left", n)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"register": func(t *rapid.T) {
				step(t, func() {
					c := genRegister(t)
					cmd := command(store.CmdRegister, c)
					want := m.register(c)
					var res [1]store.Result
					s.Apply([]store.Command{cmd}, res[:])
					if fmt.Sprint(res[0].Err) != fmt.Sprint(want) || res[0].OK != (want == nil) || res[0].Index != m.index {
						t.Fatalf("got %+v, want %v", res[0], want)
					}
				})
			},
			"deregister": func(t *rapid.T) {
				step(t, func() {
					c := &store.DeregisterCommand{
						Node:      rapid.SampledFrom(modelNodes).Draw(t, "node"),
						ServiceID: rapid.SampledFrom([]string{"", "", "s1", "s2", "web"}).Draw(t, "service"),
						CheckID:   rapid.SampledFrom([]string{"", "c1", store.SerfHealth}).Draw(t, "check"),
					}
					m.deregister(c)
					must(t, s, store.CmdDeregister, c)
				})
			},
			"restart": func(t *rapid.T) {
				again := copyOf(t, s)
				for name, q := range reads {
					if a, b := q[0](s, nil, nil), q[0](again, nil, nil); a != b {
						t.Fatalf("%s after a restart: %+v, want %+v", name, b, a)
					}
				}
				if s.Index() != again.Index() {
					t.Fatalf("index after a restart: %d, want %d", again.Index(), s.Index())
				}
				s = again
			},
		})
	})
}
