package apiclient

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// folder is a key prefix of the running test's own.
func folder(t *testing.T) string { return t.Name() + "/" }

func TestKVLife(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		kv, key := c.KV(), folder(t)+"key with ünicode+%"
		if p, _, err := kv.Get(key, nil); err != nil || p != nil {
			t.Fatalf("a missing key is %v, %v, want nil", p, err)
		}
		want := &api.KVPair{Key: key, Value: []byte{0, 1, 254, 255}, Flags: math.MaxUint64}
		_, err := kv.Put(want, nil)
		must(t, err)
		got, meta, err := kv.Get(key, nil)
		must(t, err)
		if got == nil || got.Key != key || !bytes.Equal(got.Value, want.Value) || got.Flags != want.Flags || got.Session != "" {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if got.CreateIndex == 0 || got.CreateIndex != got.ModifyIndex || meta.LastIndex != got.ModifyIndex {
			t.Errorf("indexes: created %d, modified %d, answer %d", got.CreateIndex, got.ModifyIndex, meta.LastIndex)
		}
		if !meta.KnownLeader || meta.DefaultACLPolicy != "allow" {
			t.Errorf("meta: %+v", meta)
		}
		_, err = kv.Put(&api.KVPair{Key: key}, nil)
		must(t, err)
		next, _, err := kv.Get(key, nil)
		must(t, err)
		if len(next.Value) != 0 || next.Flags != 0 || next.CreateIndex != got.CreateIndex || next.ModifyIndex <= got.ModifyIndex {
			t.Errorf("after an empty put: %+v, was %+v", next, got)
		}
		_, err = kv.Delete(key, nil)
		must(t, err)
		if p, meta, err := kv.Get(key, nil); err != nil || p != nil || meta.LastIndex <= next.ModifyIndex {
			t.Errorf("after delete: %v, index %d, %v; want nil and more than %d", p, meta.LastIndex, err, next.ModifyIndex)
		}
		_, err = kv.Delete(key, nil)
		must(t, err)
	})
}

func TestKVCompareAndSet(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		kv, key := c.KV(), folder(t)+"k"
		cas := func(value string, index uint64, want bool) {
			t.Helper()
			ok, _, err := kv.CAS(&api.KVPair{Key: key, Value: []byte(value), ModifyIndex: index}, nil)
			must(t, err)
			if ok != want {
				t.Errorf("cas to %q at %d is %t, want %t", value, index, ok, want)
			}
		}
		read := func() *api.KVPair {
			t.Helper()
			p, _, err := kv.Get(key, nil)
			must(t, err)
			return p
		}
		cas("none", 7, false)
		cas("one", 0, true)
		cas("two", 0, false)
		p := read()
		cas("two", p.ModifyIndex, true)
		cas("three", p.ModifyIndex, false)
		if p = read(); string(p.Value) != "two" {
			t.Errorf("value %q, want two", p.Value)
		}
		for _, step := range []struct {
			index uint64
			want  bool
		}{{p.ModifyIndex - 1, false}, {0, false}, {p.ModifyIndex, true}} {
			ok, _, err := kv.DeleteCAS(&api.KVPair{Key: key, ModifyIndex: step.index}, nil)
			if err != nil || ok != step.want {
				t.Errorf("delete-cas at %d is %t, %v, want %t", step.index, ok, err, step.want)
			}
		}
		if p := read(); p != nil {
			t.Errorf("still there: %+v", p)
		}
	})
}

func TestKVLists(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		kv, root := c.KV(), folder(t)
		if list, _, err := kv.List(root, nil); err != nil || len(list) != 0 {
			t.Errorf("an empty list is %v, %v", list, err)
		}
		if keys, _, err := kv.Keys(root, "", nil); err != nil || len(keys) != 0 {
			t.Errorf("empty keys are %v, %v", keys, err)
		}
		names := []string{"a", "b/1", "b/2", "b/c/1", "d"}
		for _, n := range names {
			_, err := kv.Put(&api.KVPair{Key: root + n, Value: []byte(n)}, nil)
			must(t, err)
		}
		list, meta, err := kv.List(root, nil)
		must(t, err)
		var got []string
		for _, p := range list {
			got = append(got, string(p.Value))
		}
		if !slices.Equal(got, names) {
			t.Errorf("list %v, want %v", got, names)
		}
		if last := list[len(list)-1].ModifyIndex; meta.LastIndex != last {
			t.Errorf("the list's index is %d, want the newest entry's, %d", meta.LastIndex, last)
		}
		keys := func(prefix, separator string, want ...string) {
			t.Helper()
			got, _, err := kv.Keys(root+prefix, separator, nil)
			must(t, err)
			for i := range got {
				got[i] = strings.TrimPrefix(got[i], root)
			}
			if !slices.Equal(got, want) {
				t.Errorf("keys of %q by %q: %v, want %v", prefix, separator, got, want)
			}
		}
		keys("", "", names...)
		keys("", "/", "a", "b/", "d")
		keys("b/", "/", "b/1", "b/2", "b/c/")
		keys("b", "", "b/1", "b/2", "b/c/1")
		_, err = kv.DeleteTree(root+"b/", nil)
		must(t, err)
		keys("", "", "a", "d")
		_, after, err := kv.List(root, nil)
		must(t, err)
		if after.LastIndex <= meta.LastIndex {
			t.Errorf("a delete took the list's index from %d to %d", meta.LastIndex, after.LastIndex)
		}
	})
}

// TestKVBlocking waits on a key, a missing key and a prefix.
func TestKVBlocking(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		kv, root := c.KV(), folder(t)
		key := root + "watched"
		_, err := kv.Put(&api.KVPair{Key: key, Value: []byte("1")}, nil)
		must(t, err)
		type answer struct {
			value string
			index uint64
			err   error
		}
		watch := map[string]func(q *api.QueryOptions) answer{
			"key": func(q *api.QueryOptions) answer {
				p, meta, err := kv.Get(key, q)
				if err != nil {
					return answer{err: err}
				}
				return answer{string(p.Value), meta.LastIndex, nil}
			},
			"missing": func(q *api.QueryOptions) answer {
				p, meta, err := kv.Get(root+"missing", q)
				if err != nil {
					return answer{err: err}
				}
				if p == nil {
					return answer{"", meta.LastIndex, nil}
				}
				return answer{string(p.Value), meta.LastIndex, nil}
			},
			"prefix": func(q *api.QueryOptions) answer {
				list, meta, err := kv.List(root, q)
				if err != nil {
					return answer{err: err}
				}
				return answer{string(list[len(list)-1].Value), meta.LastIndex, nil}
			},
		}
		wait := map[string]chan answer{}
		first := map[string]answer{}
		for name, f := range watch {
			before := f(nil)
			must(t, before.err)
			first[name], wait[name] = before, make(chan answer, 1)
			go func() { wait[name] <- f(&api.QueryOptions{WaitIndex: before.index, WaitTime: 20 * time.Second}) }()
		}
		time.Sleep(100 * time.Millisecond)
		_, err = kv.Put(&api.KVPair{Key: "elsewhere/" + root, Value: []byte("x")}, nil)
		must(t, err)
		time.Sleep(100 * time.Millisecond)
		for name, ch := range wait {
			select {
			case a := <-ch:
				t.Errorf("%s answered before anything changed: %+v", name, a)
				ch <- a
			default:
			}
		}
		start := time.Now()
		_, err = kv.Put(&api.KVPair{Key: key, Value: []byte("2")}, nil)
		must(t, err)
		_, err = kv.Put(&api.KVPair{Key: root + "missing", Value: []byte("2")}, nil)
		must(t, err)
		for name, ch := range wait {
			a := <-ch
			if a.err != nil || a.value != "2" || a.index <= first[name].index {
				t.Errorf("%s: got %+v after %+v, want value 2 and a higher index", name, a, first[name])
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("woken after %s", took)
		}
		start = time.Now()
		now := watch["key"](nil)
		late := watch["key"](&api.QueryOptions{WaitIndex: now.index, WaitTime: 300 * time.Millisecond})
		if took := time.Since(start); took < 300*time.Millisecond || late != now {
			t.Errorf("a wait for nothing: %+v after %s, want %+v after 300ms", late, took, now)
		}
	})
}

func TestKVLimits(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		kv, key := c.KV(), folder(t)+"big"
		big := bytes.Repeat([]byte("x"), 512<<10)
		_, err := kv.Put(&api.KVPair{Key: key, Value: big}, nil)
		must(t, err)
		if p, _, err := kv.Get(key, nil); err != nil || !bytes.Equal(p.Value, big) {
			t.Errorf("512 KiB come back as %d bytes, %v", len(p.Value), err)
		}
		_, err = kv.Put(&api.KVPair{Key: key, Value: append(big, 'x')}, nil)
		refused(t, err, 413, "Request body(524289 bytes) too large, max size: 524288 bytes.")
		_, err = kv.Put(&api.KVPair{Key: "/leading"}, nil)
		if err == nil {
			t.Error("the client takes a key with a leading slash")
		}
	})
}

func TestKVConsistencyModes(t *testing.T) {
	each(t, func(t *testing.T, c *api.Client) {
		kv, key := c.KV(), folder(t)+"k"
		_, err := kv.Put(&api.KVPair{Key: key, Value: []byte("v")}, nil)
		must(t, err)
		for name, q := range map[string]*api.QueryOptions{
			"default": {}, "consistent": {RequireConsistent: true}, "stale": {AllowStale: true},
		} {
			p, meta, err := kv.Get(key, q)
			if err != nil || p == nil || string(p.Value) != "v" {
				t.Errorf("%s: %v, %v", name, p, err)
				continue
			}
			if !meta.KnownLeader || meta.LastContact != 0 || meta.LastIndex != p.ModifyIndex {
				t.Errorf("%s: meta %+v", name, meta)
			}
		}
		_, _, err = kv.Get(key, &api.QueryOptions{AllowStale: true, RequireConsistent: true})
		refused(t, err, 400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
	})
}
