package apiclient

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// TestEvents fires through one agent and hears of it at another.
func TestEvents(t *testing.T) {
	w := theWorld(t)
	from, to := w.client1.client(t).Event(), w.server.client(t).Event()
	event := name(t, "deploy")
	first, _, err := from.Fire(&api.UserEvent{Name: event, Payload: []byte{0, 255}}, nil)
	must(t, err)
	var index uint64
	heard := func(id string) {
		t.Helper()
		until(t, 10*time.Second, "the event arrives", func() error {
			list, meta, err := to.List(event, &api.QueryOptions{WaitIndex: index, WaitTime: time.Second})
			if err != nil {
				return err
			}
			if len(list) == 0 || list[len(list)-1].ID != id {
				return fmt.Errorf("%w: %v", errNotYet, list)
			}
			if last := list[len(list)-1]; last.Name != event || !slices.Equal(last.Payload, []byte{0, 255}) || last.LTime == 0 || last.Version != 1 {
				t.Errorf("event: %+v", last)
			}
			if meta.LastIndex != to.IDToIndex(id) {
				t.Errorf("index %d, the client computes %d", meta.LastIndex, to.IDToIndex(id))
			}
			index = meta.LastIndex
			return nil
		})
	}
	heard(first)
	woken := make(chan error, 1)
	go func() {
		list, _, err := to.List(event, &api.QueryOptions{WaitIndex: index, WaitTime: 20 * time.Second})
		if err == nil && len(list) != 2 {
			err = fmt.Errorf("%d events", len(list))
		}
		woken <- err
	}()
	time.Sleep(100 * time.Millisecond)
	second, _, err := from.Fire(&api.UserEvent{Name: event, Payload: []byte{0, 255}}, nil)
	must(t, err)
	must(t, <-woken)
	heard(second)

	// Filters and another datacenter.
	only, _, err := from.Fire(&api.UserEvent{Name: event + "-c1", NodeFilter: "^c1$"}, nil)
	must(t, err)
	far, _, err := from.Fire(&api.UserEvent{Name: event + "-far"}, &api.WriteOptions{Datacenter: "dc2"})
	must(t, err)
	for id, at := range map[string]*agent{only: w.client1, far: w.remote} {
		until(t, 10*time.Second, "the event arrives at "+at.Name, func() error {
			list, _, err := at.client(t).Event().List("", nil)
			if err == nil && !slices.ContainsFunc(list, func(e *api.UserEvent) bool { return e.ID == id }) {
				err = errNotYet
			}
			return err
		})
	}
	list, _, err := to.List("", nil)
	must(t, err)
	for _, e := range list {
		if e.ID == only || e.ID == far {
			t.Errorf("s1 has an event that is not for it: %+v", e)
		}
	}
	_, _, err = from.Fire(&api.UserEvent{Name: event, TagFilter: "x"}, nil)
	refused(t, err, 500, "Cannot provide tag filter without service filter")
}

func TestCoordinates(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	until(t, 40*time.Second, "both nodes have a coordinate", func() error {
		list, meta, err := w.client1.client(t).Coordinate().Nodes(nil)
		if err != nil {
			return err
		}
		var nodes []string
		for _, e := range list {
			nodes = append(nodes, e.Node)
			if len(e.Coord.Vec) != 8 || math.IsNaN(e.Coord.Vec[0]) {
				t.Errorf("coordinate: %+v", e.Coord)
			}
		}
		if !slices.Equal(nodes, []string{"c1", "s1"}) || meta.LastIndex == 0 {
			return fmt.Errorf("%w: %v", errNotYet, nodes)
		}
		return nil
	})
	dcs, err := w.client1.client(t).Coordinate().Datacenters()
	must(t, err)
	var names []string
	for _, dc := range dcs {
		names = append(names, dc.Datacenter)
		if dc.AreaID != "wan" || len(dc.Coordinates) != 1 {
			t.Errorf("datacenter: %+v", dc)
		}
	}
	if slices.Sort(names); !slices.Equal(names, []string{"dc1", "dc2"}) {
		t.Errorf("datacenters: %v", names)
	}
	near, _, err := w.client1.client(t).Catalog().Nodes(&api.QueryOptions{Near: "s1"})
	must(t, err)
	if len(near) == 0 || near[0].Node != "s1" {
		t.Errorf("near s1: %v", near)
	}
}

// TestKeyring changes the keys of both datacenters' pools.
func TestKeyring(t *testing.T) {
	op := theWorld(t).client1.client(t).Operator()
	const other = "cg8StVXbQJ0gPvMd9o7yrg=="
	count := func(key string) (rings, with, primary int) {
		t.Helper()
		list, err := op.KeyringList(nil)
		must(t, err)
		for _, r := range list {
			rings++
			if r.Keys[key] == r.NumNodes && r.NumNodes > 0 {
				with++
			}
			if r.PrimaryKeys[key] == r.NumNodes {
				primary++
			}
		}
		if !list[0].WAN {
			t.Errorf("the first ring is not the WAN's: %+v", list[0])
		}
		return rings, with, primary
	}
	if rings, with, primary := count(gossipKey); rings != 3 || with != 3 || primary != 3 {
		t.Fatalf("%d rings, %d with the key, %d with it as primary, want 3 of each", rings, with, primary)
	}
	must(t, op.KeyringInstall(other, nil))
	must(t, op.KeyringUse(other, nil))
	if _, with, primary := count(other); with != 3 || primary != 3 {
		t.Errorf("new key: %d with it, %d as primary, want 3", with, primary)
	}
	err := op.KeyringRemove(other, nil)
	refused(t, err, 500, "Removing the primary key is not allowed")
	must(t, op.KeyringUse(gossipKey, nil))
	must(t, op.KeyringRemove(other, nil))
	if _, with, primary := count(gossipKey); with != 3 || primary != 3 {
		t.Errorf("old key again: %d with it, %d as primary, want 3", with, primary)
	}
	if _, with, _ := count(other); with != 0 {
		t.Errorf("%d rings keep the removed key", with)
	}
	refused(t, op.KeyringInstall("not base64", nil), 500, "illegal base64 data")
}
