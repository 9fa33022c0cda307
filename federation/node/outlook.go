package node

import (
	"context"
	"sync"
	"time"

	"landbridge/forwarding"
	"landbridge/forwarding/rpc"
	"landbridge/store/consensus"
)

const (
	// outlookTime is how long other servers have to answer.
	outlookTime = 300 * time.Millisecond
	// outlookAge is how long what they said is good for the next who asks.
	outlookAge = 250 * time.Millisecond
)

// outlook finds out, for a server without a leader, what the others say: once for
// all who ask at a time.
type outlook struct {
	mu    sync.Mutex
	at    time.Time // when they were asked
	last  forwarding.Outlook
	asked chan struct{} // closed when they have been; nil: nobody asks
}

// look returns what the servers of the Raft group say.
func (o *outlook) look(ctx context.Context, self string, group []consensus.Server, ask func(context.Context, consensus.Server) (leads bool, err error)) forwarding.Outlook {
	o.mu.Lock()
	for time.Since(o.at) >= outlookAge {
		asked := o.asked
		if asked == nil {
			o.asked = make(chan struct{})
			o.mu.Unlock()
			found := survey(ctx, self, group, ask)
			o.mu.Lock()
			o.at, o.last = time.Now(), found
			close(o.asked)
			o.asked = nil
			break
		}
		o.mu.Unlock()
		<-asked // within outlookTime
		o.mu.Lock()
	}
	defer o.mu.Unlock()
	return o.last
}

// survey asks the others.
func survey(ctx context.Context, self string, group []consensus.Server, ask func(context.Context, consensus.Server) (leads bool, err error)) forwarding.Outlook {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outlookTime)
	defer cancel()
	voters, there, apart := 0, 0, false
	answers := make(chan [2]bool, len(group)) // there, and leading
	asked := 0
	for _, srv := range group {
		if srv.ID == self {
			if srv.Voter {
				voters++
				there++
			}
			continue
		}
		if !srv.Voter {
			continue
		}
		voters++
		asked++
		go func() { // ends with ctx
			leads, err := ask(ctx, srv)
			answers <- [2]bool{err == nil, leads}
		}()
	}
	for ; asked > 0 && !apart; asked-- {
		a := <-answers
		if a[0] {
			there++
		}
		apart = a[1]
	}
	switch {
	case apart:
		return forwarding.Apart
	case there > voters/2:
		return forwarding.Electing
	}
	return forwarding.NoQuorum
}

// askOutlook is forwarding's LAN.Outlook.
func (s *server) askOutlook(ctx context.Context) forwarding.Outlook {
	return s.outlook.look(ctx, s.n.id, s.raft.Servers(), func(ctx context.Context, srv consensus.Server) (bool, error) {
		conn, err := s.n.lanView.pool.Get(ctx, srv.Address, s.n.lanView.nameOf(srv.ID))
		if err != nil {
			return false, err
		}
		st, err := statusFrom(ctx, conn, &rpc.Request{Method: rpc.StatusServer})
		if err != nil {
			return false, err
		}
		return st.Leader, nil
	})
}
