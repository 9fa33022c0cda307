package store

import "strconv"

// AppendJSON appends the ring as the HTTP API shows it.
func (r *KeyringRing) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldBool(b, "WAN", r.WAN)
	b = fieldString(b, "Datacenter", r.Datacenter)
	b = fieldString(b, "Segment", "")
	if len(r.Messages) > 0 {
		b = fieldMap(b, "Messages", r.Messages)
	}
	b = fieldCounts(b, "Keys", r.Keys)
	b = fieldCounts(b, "PrimaryKeys", r.PrimaryKeys)
	b = fieldInt(b, "NumNodes", r.NumNodes)
	return append(b, '}')
}

func fieldCounts(b []byte, name string, m map[string]int) []byte {
	b = append(field(b, name), '{')
	for i, k := range sortedKeys(m) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(AppendJSONString(b, k), ':')
		b = strconv.AppendInt(b, int64(m[k]), 10)
	}
	return append(b, '}')
}

// AppendKeyringJSON appends a list of rings.
func AppendKeyringJSON(b []byte, rings []KeyringRing) []byte {
	b = append(b, '[')
	for i := range rings {
		if i > 0 {
			b = append(b, ',')
		}
		b = rings[i].AppendJSON(b)
	}
	return append(b, ']')
}
