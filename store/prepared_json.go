package store

// AppendJSON appends the query as the HTTP API shows it.
func (q *PreparedQuery) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "ID", q.ID)
	b = fieldString(b, "Name", q.Name)
	b = fieldString(b, "Session", q.Session)
	b = fieldString(b, "Token", q.Token)
	b = append(field(b, "Template"), '{')
	b = fieldString(b, "Type", q.Template.Type)
	b = fieldString(b, "Regexp", q.Template.Regexp)
	b = fieldBool(b, "RemoveEmptyTags", q.Template.RemoveEmptyTags)
	b = append(b, '}')
	b = q.Service.appendJSON(field(b, "Service"))
	b = appendDNSTTL(b, q.TTL)
	b = fieldUint(b, "CreateIndex", uint64(q.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(q.ModifyIndex))
	return append(b, '}')
}

func appendDNSTTL(b []byte, ttl string) []byte {
	b = append(field(b, "DNS"), '{')
	b = fieldString(b, "TTL", ttl)
	return append(b, '}')
}

func (s *QueryService) appendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "Service", s.Service)
	b = fieldString(b, "SamenessGroup", "")
	b = append(field(b, "Failover"), '{')
	b = fieldBool(b, "SkipLocalDatacenter", s.Failover.SkipLocalDatacenter)
	b = fieldInt(b, "NearestN", s.Failover.NearestN)
	b = fieldSome(b, "Datacenters", s.Failover.Datacenters)
	b = field(b, "Targets")
	if len(s.Failover.Targets) == 0 {
		b = append(b, "null"...)
	} else {
		b = append(b, '[')
		for i, t := range s.Failover.Targets {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '{')
			b = fieldString(b, "Peer", t.Peer)
			b = fieldString(b, "Datacenter", t.Datacenter)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	b = append(b, '}')
	b = fieldBool(b, "IncludeAll", false)
	b = fieldBool(b, "OnlyPassing", s.OnlyPassing)
	b = fieldSome(b, "IgnoreCheckIDs", s.IgnoreCheckIDs)
	b = fieldString(b, "Near", s.Near)
	b = fieldSome(b, "Tags", s.Tags)
	b = fieldMap(b, "NodeMeta", s.NodeMeta)
	b = fieldMap(b, "ServiceMeta", s.ServiceMeta)
	b = fieldBool(b, "Connect", s.Connect)
	b = fieldString(b, "Peer", s.Peer)
	return append(b, '}')
}

// fieldSome appends a list; none is null.
func fieldSome(b []byte, name string, v []string) []byte {
	if len(v) == 0 {
		return append(field(b, name), "null"...)
	}
	return fieldStrings(b, name, v)
}

// JSON returns the query's JSON, encoded once and shared: callers must not change
// it.
func (q *PreparedQuery) JSON() []byte { return fragment(&q.json, q.AppendJSON) }

// AppendJSON appends the result as far as it is the query's own: an object
// without its end, to which the server that answers adds how fresh it is.
func (r *QueryResult) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "Service", r.Service)
	b = append(field(b, "Nodes"), '[')
	for i := range r.Nodes {
		if i > 0 {
			b = append(b, ',')
		}
		b = r.Nodes[i].AppendJSON(b)
	}
	b = append(b, ']')
	b = appendDNSTTL(b, r.TTL)
	b = fieldString(b, "Datacenter", r.Datacenter)
	b = fieldString(b, "PeerName", "")
	return fieldInt(b, "Failovers", r.Failovers)
}
