package store

// AppendJSON appends the instance as /v1/health/service shows it, joined from
// the rows' fragments.
func (i *ServiceInstance) AppendJSON(b []byte) []byte {
	b = append(b, `{"Node":`...)
	b = append(b, i.Node.JSON()...)
	b = append(b, `,"Service":`...)
	b = append(b, i.Service.JSON()...)
	b = append(b, `,"Checks":[`...)
	for n, c := range i.Checks {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, c.JSON()...)
	}
	return append(b, "]}"...)
}

// JSONRow is a record that carries its JSON.
type JSONRow interface{ JSON() []byte }

// AppendJSONList appends the rows' fragments as a list; none is [].
func AppendJSONList[R JSONRow](b []byte, rows []R) []byte {
	b = append(b, '[')
	for i, r := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, r.JSON()...)
	}
	return append(b, ']')
}
