package cli

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// After a burst of work the runtime keeps what the burst needed: garbage until the
// heap has doubled once more or two minutes are over, and free memory as long as
// the next burst might want it. On a machine that others share that is memory for
// nothing. memoryKeeper gives it back once the process is quiet, so that bursts
// themselves cost no more collections than they would.
const (
	memoryLook  = 200 * time.Millisecond
	memoryIdle  = 16 * memoryLook // between looks that found it quiet: they wake an idle agent
	memoryQuiet = 1 << 20         // bytes allocated between two looks: less is quiet
	memoryLeast = 16 << 20        // bytes to gain, or a quarter of what is in use if that is more
	memoryPause = 5 * time.Second // at least between two times
)

// heapSample is the heap at one moment, in bytes.
type heapSample struct {
	allocated uint64 // since the start of the process
	live      uint64 // in use after the last collection
	objects   uint64 // in use and garbage
	free      uint64 // kept for later
}

type memoryKeeper struct {
	sample  func() heapSample
	release func() // collects, and gives back what is free
}

func newMemoryKeeper() *memoryKeeper {
	list := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	return &memoryKeeper{
		sample: func() heapSample {
			metrics.Read(list)
			return heapSample{list[0].Value.Uint64(), list[1].Value.Uint64(), list[2].Value.Uint64(), list[3].Value.Uint64()}
		},
		release: debug.FreeOSMemory,
	}
}

// run keeps watch until ctx ends.
func (k *memoryKeeper) run(ctx context.Context) {
	next := memoryLook
	tick := time.NewTimer(next)
	defer tick.Stop()
	var last time.Time
	before := k.sample()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := k.sample()
		quiet := now.allocated-before.allocated < memoryQuiet
		before = now
		if next = min(2*next, memoryIdle); !quiet {
			next = memoryLook
		}
		tick.Reset(next)
		if quiet && time.Since(last) >= memoryPause && now.gain() >= max(memoryLeast, now.live/4) {
			k.release()
			last = time.Now()
		}
	}
}

// gain is how much can be given back. What came into use since the last
// collection counts as garbage: one in vain tells the difference.
func (s heapSample) gain() uint64 {
	return s.free + s.objects - min(s.objects, s.live)
}
