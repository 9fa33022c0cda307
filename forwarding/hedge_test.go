package forwarding

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding/rpc"
)

// A slow server that shows signs of life costs at most one call in fifty, after a
// first few: those are sent to a second server, whose answer counts, and the first
// one is told that nobody waits.
func TestHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaraway(t, 3)
		w.warm()
		slow := w.servers["r3.dc2"]
		slow.mu.Lock()
		slow.answer = func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
			select {
			case <-time.After(600 * time.Millisecond):
				return &rpc.Response{}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		slow.mu.Unlock()
		var quick, late atomic.Int64
		const calls = 2000
		w.load(&stale, 100, calls/100*time.Second, func(_ string, took time.Duration, err error) {
			if err != nil || took > 600*time.Millisecond+2*farRTT {
				t.Errorf("%v after %s", err, took)
			}
			switch {
			case took < 600*time.Millisecond:
				quick.Add(1)
			case took < 600*time.Millisecond+farRTT:
				late.Add(1) // won when the slow server had just ended
			}
		})
		time.Sleep(farRTT) // the last loser hears of it
		st, _ := w.d.Remote("dc2")
		if most := uint64((calls+200)/50 + hedgeBurst/hedgeCost); st.Hedges == 0 || st.Hedges > most {
			t.Errorf("%d calls were hedged, at most %d may be", st.Hedges, most)
		}
		if st.HedgesWon == 0 || slow.gone.Load() > int64(st.HedgesWon) || slow.gone.Load()+late.Load() < int64(st.HedgesWon) {
			t.Errorf("%d hedges won, %d losers were cancelled", st.HedgesWon, slow.gone.Load())
		}
		if quick.Load()+late.Load() < int64(st.HedgesWon) {
			t.Errorf("%d hedges won, but only %d answers were quick", st.HedgesWon, quick.Load())
		}
		if st.Resends > 0 || st.Servers[2].Silent {
			t.Errorf("a server that answers pings was left out: %+v", st)
		}
	})
}

// A large answer takes its server longer than the hedge waits. Its bytes come once, and
// from the other server when its own falls silent meanwhile.
func TestLargeAnswersAreFetchedOnce(t *testing.T) {
	for _, freezes := range []bool{false, true} {
		t.Run(fmt.Sprintf("freezes %v", freezes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFaraway(t, 2)
				w.warm()
				body := make([]byte, 1<<20)
				rand.NewChaCha8([32]byte{}).Read(body)
				first := make(chan *farServer, 2)
				w.each(func(s *farServer) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.answer = func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
						select {
						case first <- s:
						default:
						}
						select {
						case <-time.After(300 * time.Millisecond):
							return &rpc.Response{Body: body}, nil
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					}
				})
				if freezes {
					go func() {
						s := <-first
						time.Sleep(300*time.Millisecond + farRTT) // the caller knows that it comes, and has asked for it
						s.freeze(true)
					}()
				}
				from, took, err := w.call(&stale)
				if err != nil || from != string(body) || took > 2*time.Second {
					t.Fatalf("%d bytes after %s: %v", len(from), took, err)
				}
				time.Sleep(farRTT)
				st, _ := w.d.Remote("dc2")
				if st.Hedges != 1 || (st.Resends > 0) != freezes {
					t.Errorf("%d hedges, %d resends", st.Hedges, st.Resends)
				}
				var gave, left int64
				w.each(func(s *farServer) {
					s.mu.Lock()
					defer s.mu.Unlock()
					if len(s.links) > 1 {
						gave++
					}
					left += s.gone.Load()
				})
				if !freezes && (gave != 1 || left != 1) {
					t.Errorf("%d servers gave the answer, %d were told that nobody waits", gave, left)
				}
			})
		})
	}
}

// Every fifth answer is late. If packets get lost that is why, and what is late is sent
// to a second server; if not, servers are slow, and one call in fifty is.
func TestHedgesFollowLoss(t *testing.T) {
	for _, loss := range []float64{0, 0.05} {
		t.Run(fmt.Sprintf("loss %v", loss), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFaraway(t, 3)
				w.loss = loss
				w.warm()
				var n atomic.Int64
				w.answers(func(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
					if n.Add(1)%5 == 0 {
						select {
						case <-time.After(4 * farRTT):
						case <-ctx.Done():
						}
					}
					return &rpc.Response{}, nil
				})
				const calls = 3000
				var late atomic.Int64
				w.load(&stale, 100, calls/100*time.Second, func(_ string, took time.Duration, err error) {
					if err != nil {
						t.Error(err)
					}
					if took > 5*farRTT/2 {
						late.Add(1)
					}
				})
				st, _ := w.d.Remote("dc2")
				t.Logf("%d of %d calls were hedged, %d late", st.Hedges, calls, late.Load())
				if burst := uint64(hedgeBurst / hedgeCost); loss == 0 && st.Hedges > (calls+200)/50+burst {
					t.Errorf("%d calls were hedged without loss", st.Hedges)
				}
				if loss > 0 && (st.Hedges > calls/4 || late.Load() > calls/15) {
					t.Errorf("%d of %d calls were hedged, %d late", st.Hedges, calls, late.Load())
				}
			})
		})
	}
}
