package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// AppendEntriesPipeline gives Raft a pipeline that it can abandon.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.Transport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return newPipeline(inner, t.capCommit), nil
}

// pipeline takes answers out of the transport's pipeline whether or not Raft
// wants them. Raft stops reading them at the first refusal, or at a newer term,
// while its sender may be inside AppendEntries: raft.NetworkTransport then waits
// there for room that only a reader makes, for ever. The follower would get no
// entry until the next leader, and Raft could not shut down.
type pipeline struct {
	raft.AppendPipeline
	before func(*raft.AppendEntriesRequest)
	out    chan raft.AppendFuture
	once   sync.Once
	stopc  chan struct{}
	ended  chan struct{}
}

func newPipeline(inner raft.AppendPipeline, before func(*raft.AppendEntriesRequest)) *pipeline {
	p := &pipeline{AppendPipeline: inner, before: before, out: make(chan raft.AppendFuture), stopc: make(chan struct{}), ended: make(chan struct{})}
	go p.pass()
	return p
}

// pass ends with Close. The queue holds no more than was sent, which Raft stops
// doing soon after it stopped to read.
func (p *pipeline) pass() {
	defer close(p.ended)
	in := p.AppendPipeline.Consumer()
	var queue []raft.AppendFuture
	for {
		var out chan raft.AppendFuture
		var next raft.AppendFuture
		if len(queue) > 0 {
			out, next = p.out, queue[0]
		}
		select {
		case f := <-in:
			queue = append(queue, f)
		case out <- next:
			queue[0] = nil
			queue = queue[1:]
		case <-p.stopc:
			return
		}
	}
}

func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.before(args)
	return p.AppendPipeline.AppendEntries(args, resp)
}

// Consumer gives the answers in the order of the requests.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.out }

func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.stopc) })
	<-p.ended
	return p.AppendPipeline.Close()
}
