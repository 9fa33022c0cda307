package store

import "encoding/base64"

// AppendJSON appends the event as the HTTP API shows it.
func (e *UserEvent) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "ID", e.ID)
	b = fieldString(b, "Name", e.Name)
	b = field(b, "Payload")
	if len(e.Payload) == 0 {
		b = append(b, "null"...)
	} else {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, e.Payload)
		b = append(b, '"')
	}
	b = fieldString(b, "NodeFilter", e.NodeFilter)
	b = fieldString(b, "ServiceFilter", e.ServiceFilter)
	b = fieldString(b, "TagFilter", e.TagFilter)
	b = fieldUint(b, "Version", UserEventVersion)
	b = fieldUint(b, "LTime", e.LTime)
	return append(b, '}')
}
