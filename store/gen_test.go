package store

import (
	"encoding/json"
	"time"

	"pgregory.net/rapid"
)

// Generators of records, with the strings that break encoders.

func genString() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringN(0, 12, -1),
		rapid.SampledFrom([]string{"", "<a href='x'>&amp;</a>", "\u2028\u2029", "\xff\xfe\x80", "\x00\x01\x1f\x7f", "\b\f\n\r\t\"\\/", "日本語", "\xe2\x80", "\U0001F600"}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }),
	)
}

func genStringMap(t *rapid.T, label string) map[string]string {
	m := rapid.MapOfN(genString(), genString(), 0, 4).Draw(t, label)
	if len(m) == 0 {
		return nil
	}
	return m
}

func genStrings(t *rapid.T, label string) []string {
	s := rapid.SliceOfN(genString(), 0, 3).Draw(t, label)
	if len(s) == 0 {
		return nil
	}
	return s
}

func genBytes(t *rapid.T, label string, limit int) []byte {
	b := rapid.SliceOfN(rapid.Byte(), 0, limit).Draw(t, label)
	if len(b) == 0 {
		return nil
	}
	return b
}

func genIndex(t *rapid.T, label string) Index { return Index(rapid.Uint64().Draw(t, label)) }

func genRaw(t *rapid.T, label string) json.RawMessage {
	if rapid.Bool().Draw(t, label+"?") {
		return nil
	}
	b, err := json.Marshal(map[string]any{"A": genString().Draw(t, label), "n": rapid.Int32().Draw(t, label)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func genKV(t *rapid.T) *KVEntry {
	return &KVEntry{
		Key: genString().Draw(t, "Key"), Value: genBytes(t, "Value", 40), Flags: rapid.Uint64().Draw(t, "Flags"),
		Session: genString().Draw(t, "Session"), LockIndex: rapid.Uint64().Draw(t, "LockIndex"),
		CreateIndex: genIndex(t, "CreateIndex"), ModifyIndex: genIndex(t, "ModifyIndex"),
	}
}

func genNode(t *rapid.T) *Node {
	return &Node{
		ID: genString().Draw(t, "ID"), Node: genString().Draw(t, "Node"), Address: genString().Draw(t, "Address"),
		Datacenter: genString().Draw(t, "Datacenter"), TaggedAddresses: genStringMap(t, "TaggedAddresses"),
		Meta: genStringMap(t, "Meta"), CreateIndex: genIndex(t, "CreateIndex"), ModifyIndex: genIndex(t, "ModifyIndex"),
	}
}

func genService(t *rapid.T) *Service {
	s := &Service{
		Node: genString().Draw(t, "Node"), Kind: genString().Draw(t, "Kind"), ID: genString().Draw(t, "ID"),
		Name: genString().Draw(t, "Name"), Tags: genStrings(t, "Tags"), Address: genString().Draw(t, "Address"),
		Meta: genStringMap(t, "Meta"), Port: rapid.Int().Draw(t, "Port"), SocketPath: genString().Draw(t, "SocketPath"),
		Weights:           Weights{rapid.Int().Draw(t, "Passing"), rapid.Int().Draw(t, "Warning")},
		EnableTagOverride: rapid.Bool().Draw(t, "EnableTagOverride"),
		Proxy:             genRaw(t, "Proxy"), Connect: genRaw(t, "Connect"), Locality: genRaw(t, "Locality"),
		CreateIndex: genIndex(t, "CreateIndex"), ModifyIndex: genIndex(t, "ModifyIndex"),
	}
	for _, name := range rapid.SliceOfNDistinct(genString(), 0, 3, rapid.ID[string]).Draw(t, "tagged") {
		if s.TaggedAddresses == nil {
			s.TaggedAddresses = make(map[string]ServiceAddress)
		}
		s.TaggedAddresses[name] = ServiceAddress{genString().Draw(t, "Address"), rapid.Int().Draw(t, "Port")}
	}
	return s
}

func genCheck(t *rapid.T) *Check {
	return &Check{
		Node: genString().Draw(t, "Node"), CheckID: genString().Draw(t, "CheckID"), Name: genString().Draw(t, "Name"),
		Status: genString().Draw(t, "Status"), Notes: genString().Draw(t, "Notes"), Output: genString().Draw(t, "Output"),
		ServiceID: genString().Draw(t, "ServiceID"), ServiceName: genString().Draw(t, "ServiceName"),
		ServiceTags: genStrings(t, "ServiceTags"), Type: genString().Draw(t, "Type"),
		Interval: genString().Draw(t, "Interval"), Timeout: genString().Draw(t, "Timeout"),
		ExposedPort: rapid.Int().Draw(t, "ExposedPort"), Definition: genRaw(t, "Definition"),
		CreateIndex: genIndex(t, "CreateIndex"), ModifyIndex: genIndex(t, "ModifyIndex"),
	}
}

func genSession(t *rapid.T) *Session {
	return &Session{
		ID: genString().Draw(t, "ID"), Name: genString().Draw(t, "Name"), Node: genString().Draw(t, "Node"),
		LockDelay: time.Duration(rapid.Int64().Draw(t, "LockDelay")), Behavior: genString().Draw(t, "Behavior"),
		TTL: genString().Draw(t, "TTL"), NodeChecks: genStrings(t, "NodeChecks"), ServiceChecks: genStrings(t, "ServiceChecks"),
		CreateIndex: genIndex(t, "CreateIndex"), ModifyIndex: genIndex(t, "ModifyIndex"),
	}
}

func genTrust(t *rapid.T) *Trust {
	tr := &Trust{
		FederationID: genString().Draw(t, "FederationID"), Primary: genString().Draw(t, "Primary"),
		RootKey: genBytes(t, "RootKey", 20), Intermediate: genBytes(t, "Intermediate", 20),
		IntermediateKey: genBytes(t, "IntermediateKey", 20), ModifyIndex: genIndex(t, "ModifyIndex"),
	}
	for range rapid.IntRange(0, 3).Draw(t, "roots") {
		tr.Roots = append(tr.Roots, TrustRoot{genString().Draw(t, "ID"), genBytes(t, "DER", 20),
			genString().Draw(t, "FederationID"), rapid.Int64().Draw(t, "CreatedUnix"), rapid.Bool().Draw(t, "Active"),
			genBytes(t, "Cross", 20), rapid.Bool().Draw(t, "Provisional")})
	}
	for range rapid.IntRange(0, 3).Draw(t, "datacenters") {
		tr.Datacenters = append(tr.Datacenters, TrustDatacenter{genString().Draw(t, "Name"), genString().Draw(t, "ClusterID"), genString().Draw(t, "KeyHash"), genString().Draw(t, "Root")})
	}
	tr.Revision, tr.RenewedUnix, tr.Pruned = rapid.Uint64().Draw(t, "Revision"), rapid.Int64().Draw(t, "RenewedUnix"), rapid.Uint64().Draw(t, "Pruned")
	for range rapid.IntRange(0, 3).Draw(t, "revoked") {
		tr.Revoked = append(tr.Revoked, TrustRevocation{genString().Draw(t, "Node"), genString().Draw(t, "Datacenter"), rapid.Int64().Draw(t, "Unix"), rapid.Int64().Draw(t, "LiftedUnix")})
	}
	for range rapid.IntRange(0, 3).Draw(t, "tokens") {
		tr.Tokens = append(tr.Tokens, TrustToken{genString().Draw(t, "ID"), genBytes(t, "Verifier", 20), rapid.Int64().Draw(t, "ExpiresUnix"),
			genString().Draw(t, "Datacenter"), genString().Draw(t, "UsedBy"), genString().Draw(t, "UsedKey")})
	}
	return tr
}

func genCoordinate(t *rapid.T) *Coordinate {
	number := rapid.Float64()
	c := &Coordinate{Node: genString().Draw(t, "Node"), ModifyIndex: genIndex(t, "ModifyIndex"),
		Coord: Coord{Error: number.Draw(t, "Error"), Adjustment: number.Draw(t, "Adjustment"), Height: number.Draw(t, "Height")}}
	if v := rapid.SliceOfN(number, 0, 9).Draw(t, "Vec"); len(v) > 0 {
		c.Coord.Vec = v
	}
	return c
}
