package store

import (
	"time"

	"landbridge/store/wire"
)

// AppendWire appends the arguments.
func (q *Query) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, q.Name)
	b = appendStrings(b, 2, q.Tags)
	b = wire.StringMap(b, 3, q.NodeMeta)
	b = wire.Bool(b, 4, q.PassingOnly)
	b = wire.String(b, 5, q.Separator)
	return wire.String(b, 6, q.Near)
}

// DecodeWire replaces q by what AppendWire wrote.
func (q *Query) DecodeWire(b []byte) error {
	*q = Query{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			q.Name = d.String()
		case 2:
			q.Tags = append(q.Tags, d.String())
		case 3:
			d.StringPair(&q.NodeMeta)
		case 4:
			q.PassingOnly = d.Bool()
		case 5:
			q.Separator = d.String()
		case 6:
			q.Near = d.String()
		}
	}
	return d.Err()
}

// AppendWire appends the status.
func (s *ServerStatus) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, s.NodeID)
	b = wire.String(b, 2, s.Node)
	b = wire.String(b, 3, s.ClusterID)
	b = appendStrings(b, 4, s.Peers)
	b = wire.Uint(b, 5, s.LastTerm)
	b = wire.Uint(b, 6, s.LastIndex)
	b = wire.Bool(b, 7, s.Leader)
	b = wire.Bool(b, 8, s.HasState)
	b = wire.Int(b, 9, int64(s.LastContact))
	b = wire.Int(b, 10, s.Started)
	return wire.Uint(b, 11, s.Recoveries)
}

// DecodeWire replaces s by what AppendWire wrote.
func (s *ServerStatus) DecodeWire(b []byte) error {
	*s = ServerStatus{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			s.NodeID = d.String()
		case 2:
			s.Node = d.String()
		case 3:
			s.ClusterID = d.String()
		case 4:
			s.Peers = append(s.Peers, d.String())
		case 5:
			s.LastTerm = d.Uint()
		case 6:
			s.LastIndex = d.Uint()
		case 7:
			s.Leader = d.Bool()
		case 8:
			s.HasState = d.Bool()
		case 9:
			s.LastContact = time.Duration(d.Int())
		case 10:
			s.Started = d.Int()
		case 11:
			s.Recoveries = d.Uint()
		}
	}
	return d.Err()
}

// AppendWire appends the instance with its node and checks.
func (i *ServiceInstance) AppendWire(b []byte) []byte {
	if i.Node != nil {
		b = wire.Message(b, 1, i.Node.AppendWire)
	}
	if i.Service != nil {
		b = wire.Message(b, 2, i.Service.AppendWire)
	}
	for _, c := range i.Checks {
		b = wire.Message(b, 3, c.AppendWire)
	}
	return b
}

// DecodeWire replaces i by what AppendWire wrote. Node and Service are never nil
// afterwards.
func (i *ServiceInstance) DecodeWire(b []byte) error {
	*i = ServiceInstance{Node: new(Node), Service: new(Service)}
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			err = i.Node.DecodeWire(d.Bytes())
		case 2:
			err = i.Service.DecodeWire(d.Bytes())
		case 3:
			c := new(Check)
			err = c.DecodeWire(d.Bytes())
			i.Checks = append(i.Checks, c)
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

// AppendWire appends the node with its services.
func (n *NodeServices) AppendWire(b []byte) []byte {
	if n.Node != nil {
		b = wire.Message(b, 1, n.Node.AppendWire)
	}
	for _, s := range n.Services {
		b = wire.Message(b, 2, s.AppendWire)
	}
	return b
}

// DecodeWire replaces n by what AppendWire wrote. Node is nil for a node that
// does not exist.
func (n *NodeServices) DecodeWire(b []byte) error {
	*n = NodeServices{}
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			n.Node = new(Node)
			err = n.Node.DecodeWire(d.Bytes())
		case 2:
			s := new(Service)
			err = s.DecodeWire(d.Bytes())
			n.Services = append(n.Services, s)
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

// AppendInstances appends a list of instances: the records form of a health
// answer.
func AppendInstances(b []byte, list []ServiceInstance) []byte {
	for i := range list {
		b = wire.Message(b, 1, list[i].AppendWire)
	}
	return b
}

// DecodeInstances reads what AppendInstances wrote.
func DecodeInstances(b []byte) ([]ServiceInstance, error) {
	var list []ServiceInstance
	err := eachElement(b, func(b []byte) error {
		var i ServiceInstance
		err := i.DecodeWire(b)
		list = append(list, i)
		return err
	})
	return list, err
}

// AppendNodeServices appends a list of nodes with their services.
func AppendNodeServices(b []byte, list []NodeServices) []byte {
	for i := range list {
		b = wire.Message(b, 1, list[i].AppendWire)
	}
	return b
}

// DecodeNodeServices reads what AppendNodeServices wrote.
func DecodeNodeServices(b []byte) ([]NodeServices, error) {
	var list []NodeServices
	err := eachElement(b, func(b []byte) error {
		var n NodeServices
		err := n.DecodeWire(b)
		list = append(list, n)
		return err
	})
	return list, err
}

// AppendNodes appends a list of nodes.
func AppendNodes(b []byte, list []*Node) []byte {
	for _, n := range list {
		b = wire.Message(b, 1, n.AppendWire)
	}
	return b
}

// DecodeNodes reads what AppendNodes wrote.
func DecodeNodes(b []byte) ([]*Node, error) { return decodeList[Node](b) }

// AppendServices appends a list of services.
func AppendServices(b []byte, list []*Service) []byte {
	for _, s := range list {
		b = wire.Message(b, 1, s.AppendWire)
	}
	return b
}

// DecodeServices reads what AppendServices wrote.
func DecodeServices(b []byte) ([]*Service, error) { return decodeList[Service](b) }

// AppendChecks appends a list of checks.
func AppendChecks(b []byte, list []*Check) []byte {
	for _, c := range list {
		b = wire.Message(b, 1, c.AppendWire)
	}
	return b
}

// DecodeChecks reads what AppendChecks wrote.
func DecodeChecks(b []byte) ([]*Check, error) { return decodeList[Check](b) }

// AppendKVEntries appends a list of entries.
func AppendKVEntries(b []byte, list []*KVEntry) []byte {
	for _, e := range list {
		b = wire.Message(b, 1, e.AppendWire)
	}
	return b
}

// DecodeKVEntries reads what AppendKVEntries wrote.
func DecodeKVEntries(b []byte) ([]*KVEntry, error) { return decodeList[KVEntry](b) }

type decoder[T any] interface {
	*T
	DecodeWire([]byte) error
}

func decodeList[T any, P decoder[T]](b []byte) ([]*T, error) {
	var list []*T
	err := eachElement(b, func(b []byte) error {
		v := new(T)
		list = append(list, v)
		return P(v).DecodeWire(b)
	})
	return list, err
}

func eachElement(b []byte, take func([]byte) error) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		if d.Field != 1 {
			continue
		}
		if err := take(d.Bytes()); err != nil {
			return err
		}
	}
	return d.Err()
}
