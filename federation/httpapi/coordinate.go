package httpapi

import (
	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func (c *call) coordinateDatacenters() error { return c.plain(c.local(rpc.CoordinateDatacenters)) }

func (c *call) coordinateNodes() error { return c.coordinates(rpc.CoordinateNodes) }

func (c *call) coordinateNode() error {
	if c.rest == "" {
		return badRequest("Missing node name")
	}
	return c.coordinates(rpc.CoordinateNode)
}

func (c *call) coordinates(method rpc.MethodID) error {
	req := c.request(method)
	if err := c.query(req, false); err != nil {
		return err
	}
	req.Query.Name = c.rest
	return c.read(req, false)
}

func (c *call) coordinateUpdate() error {
	var b struct {
		Node       string
		Segment    string
		Partition  string
		Datacenter string
		Coord      store.Coord
	}
	if err := c.decode(&b); err != nil {
		return err
	}
	if b.Segment != "" {
		return store.Errorf(store.KindInvalid, "Network segments are not supported in this version of Consul")
	}
	if b.Partition != "" && b.Partition != "default" {
		return badRequest("Invalid field: \"Partition\" - Partitions are a Consul Enterprise feature")
	}
	u := store.Coordinate{Node: b.Node, Coord: b.Coord}
	req := c.request(rpc.CoordinateUpdate)
	if b.Datacenter != "" {
		req.Datacenter = b.Datacenter
	}
	req.Body = u.AppendWire(nil)
	if _, err := c.run(req); err != nil {
		return err
	}
	return c.done()
}
