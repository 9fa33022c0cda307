package store

import "landbridge/store/wire"

// AppendWire appends the query's fields, its token included.
func (q *PreparedQuery) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, q.ID)
	b = wire.String(b, 2, q.Name)
	b = wire.String(b, 3, q.Session)
	b = wire.String(b, 4, q.Token)
	b = wire.Message(b, 5, q.Template.AppendWire)
	b = wire.Message(b, 6, q.Service.AppendWire)
	b = wire.String(b, 7, q.TTL)
	b = wire.Uint(b, 8, uint64(q.CreateIndex))
	return wire.Uint(b, 9, uint64(q.ModifyIndex))
}

// DecodeWire replaces q by what AppendWire wrote.
func (q *PreparedQuery) DecodeWire(b []byte) error {
	*q = PreparedQuery{}
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			q.ID = d.String()
		case 2:
			q.Name = d.String()
		case 3:
			q.Session = d.String()
		case 4:
			q.Token = d.String()
		case 5:
			err = q.Template.DecodeWire(d.Bytes())
		case 6:
			err = q.Service.DecodeWire(d.Bytes())
		case 7:
			q.TTL = d.String()
		case 8:
			q.CreateIndex = Index(d.Uint())
		case 9:
			q.ModifyIndex = Index(d.Uint())
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

// AppendWire appends the template's fields.
func (t *QueryTemplate) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, t.Type)
	b = wire.String(b, 2, t.Regexp)
	return wire.Bool(b, 3, t.RemoveEmptyTags)
}

// DecodeWire replaces t by what AppendWire wrote.
func (t *QueryTemplate) DecodeWire(b []byte) error {
	*t = QueryTemplate{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			t.Type = d.String()
		case 2:
			t.Regexp = d.String()
		case 3:
			t.RemoveEmptyTags = d.Bool()
		}
	}
	return d.Err()
}

// AppendWire appends the service's fields.
func (s *QueryService) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, s.Service)
	b = wire.Message(b, 2, s.Failover.AppendWire)
	b = wire.Bool(b, 3, s.OnlyPassing)
	b = appendStrings(b, 4, s.IgnoreCheckIDs)
	b = wire.String(b, 5, s.Near)
	b = appendStrings(b, 6, s.Tags)
	b = wire.StringMap(b, 7, s.NodeMeta)
	b = wire.StringMap(b, 8, s.ServiceMeta)
	b = wire.Bool(b, 9, s.Connect)
	return wire.String(b, 10, s.Peer)
}

// DecodeWire replaces s by what AppendWire wrote.
func (s *QueryService) DecodeWire(b []byte) error {
	*s = QueryService{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			s.Service = d.String()
		case 2:
			if err := s.Failover.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		case 3:
			s.OnlyPassing = d.Bool()
		case 4:
			s.IgnoreCheckIDs = append(s.IgnoreCheckIDs, d.String())
		case 5:
			s.Near = d.String()
		case 6:
			s.Tags = append(s.Tags, d.String())
		case 7:
			d.StringPair(&s.NodeMeta)
		case 8:
			d.StringPair(&s.ServiceMeta)
		case 9:
			s.Connect = d.Bool()
		case 10:
			s.Peer = d.String()
		}
	}
	return d.Err()
}

// AppendWire appends the failover's fields.
func (f *QueryFailover) AppendWire(b []byte) []byte {
	b = wire.Bool(b, 1, f.SkipLocalDatacenter)
	b = wire.Int(b, 2, int64(f.NearestN))
	b = appendStrings(b, 3, f.Datacenters)
	for i := range f.Targets {
		b = wire.Message(b, 4, f.Targets[i].AppendWire)
	}
	return b
}

// DecodeWire replaces f by what AppendWire wrote.
func (f *QueryFailover) DecodeWire(b []byte) error {
	*f = QueryFailover{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			f.SkipLocalDatacenter = d.Bool()
		case 2:
			f.NearestN = int(d.Int())
		case 3:
			f.Datacenters = append(f.Datacenters, d.String())
		case 4:
			var t QueryTarget
			if err := t.DecodeWire(d.Bytes()); err != nil {
				return err
			}
			f.Targets = append(f.Targets, t)
		}
	}
	return d.Err()
}

// AppendWire appends the target's fields.
func (t *QueryTarget) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, t.Datacenter)
	return wire.String(b, 2, t.Peer)
}

// DecodeWire replaces t by what AppendWire wrote.
func (t *QueryTarget) DecodeWire(b []byte) error {
	*t = QueryTarget{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			t.Datacenter = d.String()
		case 2:
			t.Peer = d.String()
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *QueryCommand) AppendWire(b []byte) []byte {
	b = wire.Uint(b, 1, uint64(c.Op))
	return wire.Message(b, 2, c.Query.AppendWire)
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *QueryCommand) DecodeWire(b []byte) error {
	*c = QueryCommand{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.Op = QueryOp(min(d.Uint(), 255))
		case 2:
			if err := c.Query.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return d.Err()
}

// AppendWire appends the arguments.
func (e *QueryExecute) AppendWire(b []byte) []byte {
	b = wire.Int(b, 1, int64(e.Limit))
	b = wire.Bool(b, 2, e.Connect)
	b = wire.String(b, 3, e.Agent)
	b = wire.String(b, 4, e.Source)
	if e.Query != nil {
		b = wire.Message(b, 5, e.Query.AppendWire)
	}
	return b
}

// DecodeWire replaces e by what AppendWire wrote.
func (e *QueryExecute) DecodeWire(b []byte) error {
	*e = QueryExecute{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			e.Limit = int(d.Int())
		case 2:
			e.Connect = d.Bool()
		case 3:
			e.Agent = d.String()
		case 4:
			e.Source = d.String()
		case 5:
			e.Query = new(PreparedQuery)
			if err := e.Query.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		}
	}
	return d.Err()
}

// AppendWire appends the result.
func (r *QueryResult) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, r.Service)
	for i := range r.Nodes {
		b = wire.Message(b, 2, r.Nodes[i].AppendWire)
	}
	b = wire.String(b, 3, r.TTL)
	b = wire.String(b, 4, r.Datacenter)
	b = wire.Int(b, 5, int64(r.Failovers))
	return wire.Bool(b, 6, r.BySource)
}

// DecodeWire replaces r by what AppendWire wrote.
func (r *QueryResult) DecodeWire(b []byte) error {
	*r = QueryResult{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			r.Service = d.String()
		case 2:
			var i ServiceInstance
			if err := i.DecodeWire(d.Bytes()); err != nil {
				return err
			}
			r.Nodes = append(r.Nodes, i)
		case 3:
			r.TTL = d.String()
		case 4:
			r.Datacenter = d.String()
		case 5:
			r.Failovers = int(d.Int())
		case 6:
			r.BySource = d.Bool()
		}
	}
	return d.Err()
}

// AppendQueries appends a list of queries.
func AppendQueries(b []byte, list []*PreparedQuery) []byte {
	for _, q := range list {
		b = wire.Message(b, 1, q.AppendWire)
	}
	return b
}

// DecodeQueries reads what AppendQueries wrote.
func DecodeQueries(b []byte) ([]*PreparedQuery, error) { return decodeList[PreparedQuery](b) }
