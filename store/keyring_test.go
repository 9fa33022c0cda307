package store

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func genRing(t *rapid.T) *KeyringRing {
	counts := func(label string) map[string]int {
		m := rapid.MapOfN(genString(), rapid.Int(), 0, 3).Draw(t, label)
		if len(m) == 0 {
			return nil
		}
		return m
	}
	return &KeyringRing{
		WAN: rapid.Bool().Draw(t, "WAN"), Datacenter: genString().Draw(t, "Datacenter"), Messages: genStringMap(t, "Messages"),
		Keys: counts("Keys"), PrimaryKeys: counts("PrimaryKeys"), NumNodes: rapid.Int().Draw(t, "NumNodes"), Error: genString().Draw(t, "Error"),
	}
}

func TestKeyringWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roundTrip(t, genRing(t), &KeyringRing{Error: "left over", Keys: map[string]int{"x": 1}})
		roundTrip(t, &KeyringRequest{KeyringOp(rapid.Byte().Draw(t, "op")), genString().Draw(t, "key"), rapid.Byte().Draw(t, "relay"), rapid.Bool().Draw(t, "local")},
			&KeyringRequest{Key: "left over"})
	})
}

func TestKeyringJSON(t *testing.T) {
	rings := []KeyringRing{
		{WAN: true, Datacenter: "dc1", Messages: map[string]string{"a.dc1": "no"}, Keys: map[string]int{"k2": 1, "k1": 2}, PrimaryKeys: map[string]int{"k1": 2}, NumNodes: 2},
		{Datacenter: "dc1"},
	}
	want := `[{"WAN":true,"Datacenter":"dc1","Segment":"","Messages":{"a.dc1":"no"},"Keys":{"k1":2,"k2":1},"PrimaryKeys":{"k1":2},"NumNodes":2},` +
		`{"WAN":false,"Datacenter":"dc1","Segment":"","Keys":{},"PrimaryKeys":{},"NumNodes":0}]`
	got := AppendKeyringJSON(nil, rings)
	if diff := cmp.Diff(want, string(got)); diff != "" || !json.Valid(got) {
		t.Error(diff)
	}
}

func TestKeyringErrors(t *testing.T) {
	if err := KeyringErrors([]KeyringRing{{Datacenter: "dc1", Messages: map[string]string{"a": "a note"}}}); err != nil {
		t.Errorf("a note is no error, got %v", err)
	}
	err := KeyringErrors([]KeyringRing{{Datacenter: "dc1", Error: "2/2 nodes reported failure", Messages: map[string]string{"b": "y", "a": "x"}}, {Datacenter: "dc2"}})
	if want := "3 errors occurred:\n\t* dc1 (LAN) error: 2/2 nodes reported failure\n\t* a: x\n\t* b: y\n\n"; err == nil || err.Error() != want || KindOf(err) != KindInvalid {
		t.Errorf("got %q", err)
	}
	err = KeyringErrors([]KeyringRing{{WAN: true, Datacenter: "dc1", Error: "gone"}})
	if want := "1 error occurred:\n\t* WAN error: gone\n\n"; err == nil || err.Error() != want {
		t.Errorf("got %q", err)
	}
}
