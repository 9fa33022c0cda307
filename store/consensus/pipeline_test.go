package consensus

import (
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

// onePlace is a pipeline like that of raft.NetworkTransport with two requests in
// flight: a request waits until the answer before the last was taken.
type onePlace struct {
	sent, done chan raft.AppendFuture
	stopc      chan struct{}
}

func newOnePlace() *onePlace {
	p := &onePlace{sent: make(chan raft.AppendFuture), done: make(chan raft.AppendFuture), stopc: make(chan struct{})}
	go func() {
		for {
			select {
			case f := <-p.sent:
				select {
				case p.done <- f:
				case <-p.stopc:
					return
				}
			case <-p.stopc:
				return
			}
		}
	}()
	return p
}

func (p *onePlace) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := answer{args: args, resp: resp}
	select {
	case p.sent <- f:
		return f, nil
	case <-p.stopc:
		return nil, raft.ErrPipelineShutdown
	}
}

func (p *onePlace) Consumer() <-chan raft.AppendFuture { return p.done }
func (p *onePlace) Close() error                       { close(p.stopc); return nil }

type answer struct {
	raft.AppendFuture
	args *raft.AppendEntriesRequest
	resp *raft.AppendEntriesResponse
}

// Raft may send after it stopped to read, and reads in order until then.
func TestPipelineThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeline(newOnePlace(), func(*raft.AppendEntriesRequest) {})
		send := func(term uint64) {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: term}, nil); err != nil {
				t.Fatal(err)
			}
		}
		for term := range uint64(3) {
			send(term)
		}
		for term := range uint64(3) {
			if got := (<-p.Consumer()).(answer).args.Term; got != term {
				t.Errorf("answer %d is of request %d", term, got)
			}
		}
		for range 10 {
			send(3) // blocks for ever without the queue, which ends the test
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}
