package node

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"landbridge/federation"
	"landbridge/forwarding"
	"landbridge/forwarding/rpc"
	"landbridge/lan/gossip"
	"landbridge/store"
	wangossip "landbridge/wan/gossip"
)

// Times of a status: each level has a little less than the one that asked it, so
// that what is missing is named by the one nearest to it.
const (
	statusTime   = 4 * time.Second
	statusOfDC   = 3 * time.Second
	statusOfPeer = 2 * time.Second
	checkTime    = time.Second
	// checkMost is up to how many servers of other datacenters one calls each for a
	// status. Beyond, it tells what it knows.
	checkMost = 32
	// gatherAtOnce bounds the calls of one status under way.
	gatherAtOnce = 64
)

// federation is /v1/internal/federation: a client agent asks a server.
func (n *Node) federation(ctx context.Context, token string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTime+time.Second)
	defer cancel()
	resp, err := n.dispatcher.Do(ctx, &rpc.Request{
		Method: rpc.FederationStatus, Token: token, SourceDC: n.cfg.Datacenter, Query: store.Query{Name: rpc.StatusFederation},
	})
	if err != nil {
		return nil, err
	}
	return json.RawMessage(resp.Body), nil
}

// federationStatus is FederationStatus.
func (s *server) federationStatus(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if s.wan == nil {
		return nil, store.Errorf(store.KindInvalid, "this server does not take part in the WAN: ask one that does")
	}
	var st federation.Status
	switch req.Query.Name {
	case rpc.StatusOwn:
		st.Rows = []federation.Row{s.row(ctx)}
	case rpc.StatusDatacenter:
		s.gatherPeers(ctx, req, &st)
	case rpc.StatusFederation:
		s.gatherAll(ctx, req, &st)
	default:
		return nil, store.Errorf(store.KindInvalid, "status of %q is asked for: want %q, %q or %q", req.Query.Name, rpc.StatusOwn, rpc.StatusDatacenter, rpc.StatusFederation)
	}
	body, err := json.Marshal(&st)
	if err != nil {
		return nil, err
	}
	return &rpc.Response{KnownLeader: true, Body: body}, nil
}

// row is what this server says of its links. In a small federation it calls the
// others, all at once: what counts is how it is now.
func (s *server) row(ctx context.Context) federation.Row {
	w := s.wan
	r := federation.Row{
		Server: wangossip.Name(s.n.cfg.NodeName, s.n.cfg.Datacenter), Datacenter: s.n.cfg.Datacenter,
		CertExpires: s.authority.Status().CertExpires, Links: w.dir.Links(), Breakers: s.breakers(),
	}
	if len(r.Links) > checkMost {
		return r
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	addrs := map[string]string{}
	for _, dc := range w.dir.Snapshot() {
		for _, srv := range dc.Servers {
			addrs[srv.Name] = srv.Addr.String()
		}
	}
	var wg sync.WaitGroup
	for i := range r.Links {
		l := &r.Links[i]
		wg.Go(func() {
			err := w.check(ctx, addrs[l.To], l.To)
			l.Checked, l.Reachable, l.Via = true, err == nil, w.ways.via(l.To)
			if err != nil {
				l.Error = err.Error()
				if at := w.dir.Heard(l.To); at.After(began) {
					l.LastContact, l.OneWay = at, true
				}
				return
			}
			l.LastContact = time.Now()
			if rtt, ok := s.distance(l.To); ok {
				l.RTT = rtt.Seconds()
			}
		})
	}
	wg.Wait()
	return r
}

// check calls a server of another datacenter.
func (w *wan) check(ctx context.Context, addr, name string) error {
	c, err := w.rpc.Get(ctx, addr, name)
	if err != nil {
		return err
	}
	_, err = c.Do(ctx, &rpc.Request{Method: rpc.Ping, Hops: 1})
	if rpc.Answered(err) {
		return nil
	}
	return err
}

// gatherPeers asks the other servers of this datacenter for their rows.
func (s *server) gatherPeers(ctx context.Context, req *rpc.Request, st *federation.Status) {
	ctx, cancel := context.WithTimeout(ctx, statusOfPeer)
	defer cancel()
	dc := s.n.cfg.Datacenter
	g := gatherer{st: st}
	g.ask(dc, wangossip.Name(s.n.cfg.NodeName, dc), func() (*federation.Status, error) {
		return &federation.Status{Rows: []federation.Row{s.row(ctx)}}, nil
	})
	for _, m := range s.n.lan.Members() {
		p, ok := serverPeer(m)
		if !ok || m.Name == s.n.cfg.NodeName || m.Status == gossip.Left || !p.Federated {
			continue
		}
		g.ask(dc, wangossip.Name(m.Name, dc), func() (*federation.Status, error) { return s.askPeer(ctx, req, p) })
	}
	g.wait()
}

func (s *server) askPeer(ctx context.Context, req *rpc.Request, p forwarding.Peer) (*federation.Status, error) {
	conn, err := s.n.lanView.Dial(ctx, p)
	if err != nil {
		return nil, err
	}
	return decodeStatus(conn.Do(ctx, &rpc.Request{
		Method: rpc.FederationStatus, Token: req.Token, SourceDC: req.SourceDC, Hops: req.Hops + 1, Query: store.Query{Name: rpc.StatusOwn},
	}))
}

// gatherAll asks each datacenter for the rows of its servers.
func (s *server) gatherAll(ctx context.Context, req *rpc.Request, st *federation.Status) {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	n, w := s.n, s.wan
	trust := s.authority.Status()
	st.Datacenter, st.Server, st.At = n.cfg.Datacenter, wangossip.Name(n.cfg.NodeName, n.cfg.Datacenter), time.Now().UTC()
	st.Primary, st.FederationID, st.Certificates, st.CertExpires = trust.Primary, trust.FederationID, trust.Mode, trust.CertExpires
	g := gatherer{st: st}
	snap := w.dir.Snapshot()
	for _, name := range w.dir.Datacenters() {
		dc := federation.DatacenterStatus{Name: name, Servers: []federation.ServerStatus{}}
		for _, srv := range snap[name].Servers {
			v := federation.ServerStatus{Name: srv.Name, Address: srv.Addr.String(), Status: srv.Status.String(), Answering: w.dir.Answering(srv.Name)}
			if rtt, ok := s.distance(srv.Name); ok {
				v.RTT = rtt.Round(10 * time.Microsecond).String()
			}
			dc.Servers = append(dc.Servers, v)
		}
		st.Datacenters = append(st.Datacenters, dc)
		if name == n.cfg.Datacenter {
			g.ask(name, "", func() (*federation.Status, error) {
				var own federation.Status
				s.gatherPeers(ctx, req, &own)
				return &own, nil
			})
			continue
		}
		g.ask(name, "", func() (*federation.Status, error) {
			ctx, cancel := context.WithTimeout(ctx, statusOfDC)
			defer cancel()
			return decodeStatus(n.dispatcher.Do(ctx, &rpc.Request{
				Method: rpc.FederationStatus, Datacenter: name, Token: req.Token, SourceDC: n.cfg.Datacenter, Hops: req.Hops,
				Query: store.Query{Name: rpc.StatusDatacenter}, NoHold: true,
			}))
		})
	}
	g.wait()
	st.Finish()
}

func decodeStatus(resp *rpc.Response, err error) (*federation.Status, error) {
	if err != nil {
		return nil, err
	}
	st := new(federation.Status)
	if err := json.Unmarshal(resp.Body, st); err != nil {
		return nil, fmt.Errorf("reading the status: %w", err)
	}
	return st, nil
}

// gatherer collects rows of several places, asked at once; whoever does not tell
// is named.
type gatherer struct {
	wg    sync.WaitGroup
	slots chan struct{}

	mu sync.Mutex
	st *federation.Status
}

func (g *gatherer) ask(dc, server string, f func() (*federation.Status, error)) {
	if g.slots == nil {
		g.slots = make(chan struct{}, gatherAtOnce)
	}
	g.wg.Go(func() {
		g.slots <- struct{}{}
		part, err := f()
		<-g.slots
		g.mu.Lock()
		defer g.mu.Unlock()
		if err != nil {
			g.st.Missing = append(g.st.Missing, federation.Missing{Datacenter: dc, Server: server, Error: err.Error()})
			return
		}
		g.st.Rows = append(g.st.Rows, part.Rows...)
		g.st.Missing = append(g.st.Missing, part.Missing...)
	})
}

func (g *gatherer) wait() { g.wg.Wait() }

// paths samples the connections with other servers.
func (w *wan) paths() []federation.PathSample {
	stats := w.endpoint.Paths()
	list := make([]federation.PathSample, len(stats))
	for i, p := range stats {
		list[i] = federation.PathSample{
			Peer: p.Peer, RTT: p.RTT, Sent: p.PacketsSent, Lost: p.PacketsLost, Received: p.PacketsReceived,
			Connection: connectionKey{p.Peer, p.Protocol, p.Dialed, p.Since}, Relayed: p.Via != "",
		}
	}
	return list
}

// connectionKey tells the connections of an endpoint apart.
type connectionKey struct {
	peer, protocol string
	dialed         bool
	since          time.Time
}

// breakers are the datacenters that this server does not pass calls on to.
func (s *server) breakers() (list []federation.Breaker) {
	for _, r := range s.n.dispatcher.Remotes() {
		if r.Breaker != forwarding.BreakerClosed {
			list = append(list, federation.Breaker{Datacenter: r.Datacenter, State: r.Breaker.String(), Since: r.Since})
		}
	}
	return list
}
