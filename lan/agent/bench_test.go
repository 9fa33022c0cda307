package agent

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"landbridge/store"
)

// BenchmarkRegister registers 500 services with a check each, 50 callers at
// once, into a catalog that answers after a millisecond.
func BenchmarkRegister(b *testing.B) {
	for _, disk := range []bool{false, true} {
		b.Run(fmt.Sprint("disk=", disk), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				c := newCatalog()
				c.delay = func() time.Duration { return time.Millisecond }
				cfg := testConfig(c)
				if disk {
					cfg.DataDir = b.TempDir()
				}
				a, err := New(cfg)
				if err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				var run sync.WaitGroup
				run.Go(func() { _ = a.Run(ctx) })
				var wg sync.WaitGroup
				for w := range 50 {
					wg.Go(func() {
						for i := range 10 {
							def := &ServiceDefinition{Name: fmt.Sprint("s", w, "-", i), Checks: []*CheckDefinition{{TTL: Duration(time.Hour)}}}
							if err := a.AddService(ctx, def, false); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				cancel()
				run.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/500, "us/registration")
		})
	}
}

// BenchmarkUpdateTTL is the steady load: a check that stays passing.
func BenchmarkUpdateTTL(b *testing.B) {
	a, stop := benchAgent(b, b.TempDir())
	defer stop()
	b.ReportAllocs()
	for b.Loop() {
		if err := a.UpdateTTL("service:s1", store.Passing, "fine"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompare is a full sync of 500 services without a difference.
func BenchmarkCompare(b *testing.B) {
	a, stop := benchAgent(b, "")
	defer stop()
	b.ReportAllocs()
	for b.Loop() {
		a.fullSync(context.Background())
	}
}

func benchAgent(b *testing.B, dir string) (*Agent, func()) {
	cfg := testConfig(newCatalog())
	cfg.DataDir = dir
	a, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Run(ctx) })
	for i := range 500 {
		if err := a.AddService(ctx, &ServiceDefinition{Name: fmt.Sprint("s", i), Checks: []*CheckDefinition{{TTL: Duration(time.Hour)}}}, false); err != nil {
			b.Fatal(err)
		}
	}
	return a, func() { cancel(); wg.Wait() }
}
