package node

import (
	"context"

	"landbridge/forwarding/rpc"
	"landbridge/lan/agent"
	"landbridge/store"
)

// eventName is what user events are called in the pool: their own name is in the
// payload.
const eventName = "lb"

// fireEvent is EventFire: it tells the LAN pool of this datacenter. Filters that
// no agent could read are refused here.
func (s *server) fireEvent(_ context.Context, req *rpc.Request) (*rpc.Response, error) {
	var ev store.UserEvent
	if err := ev.DecodeWire(req.Body); err != nil {
		return nil, store.Errorf(store.KindInvalid, "Event.Fire: %w", err)
	}
	if ev.Name == "" {
		return nil, store.Errorf(store.KindBadRequest, "Missing name")
	}
	if _, err := ev.Filter(); err != nil {
		return nil, err
	}
	if err := s.n.lan.UserEvent(eventName, ev.AppendWire(nil)); err != nil {
		return nil, store.Errorf(store.KindInvalid, "error broadcasting event: %w", err)
	}
	return &rpc.Response{Index: 1, KnownLeader: true}, nil
}

// receiveEvent is called by the LAN pool with each user event.
func (n *Node) receiveEvent(name string, payload []byte, ltime uint64) {
	if name != eventName {
		return // of another version
	}
	ev := n.agent.Events().Receive(payload, ltime)
	if ev == nil {
		return
	}
	n.log.Debug("user event", "event", ev.Name, "id", ev.ID)
	if ev.Name != agent.ExecEvent {
		return
	}
	if n.exec == nil {
		n.log.Info("remote execution is off (disable_remote_exec): event ignored", "id", ev.ID)
		return
	}
	n.exec.Take(ev)
}

// keys is the key/value store of this datacenter, for remote execution.
type keys struct {
	do    rpc.Doer
	token func() string
}

func (k keys) Get(ctx context.Context, key string) (*store.KVEntry, error) {
	resp, err := k.do.Do(ctx, &rpc.Request{Method: rpc.KVGet, Token: k.token(), Representation: rpc.Records, Query: store.Query{Name: key}})
	if err != nil || resp.NotFound {
		return nil, err
	}
	list, err := store.DecodeKVEntries(resp.Body)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

func (k keys) Lock(ctx context.Context, key string, value []byte, session string) (bool, error) {
	cmd := store.KVCommand{Op: store.KVLock, Entry: store.KVEntry{Key: key, Value: value, Session: session}}
	resp, err := k.do.Do(ctx, &rpc.Request{Method: rpc.KVApply, Token: k.token(), Body: cmd.AppendWire(nil)})
	if err != nil {
		return false, err
	}
	return string(resp.Body) == "true", nil
}
