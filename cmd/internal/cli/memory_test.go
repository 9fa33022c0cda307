package cli

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is given back when the process is quiet and there is enough to gain, at
// most every five seconds.
func TestMemoryIsGivenBackWhenQuiet(t *testing.T) {
	const mb = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // what follows
		looks := 0
		heap := heapSample{live: 100 * mb, objects: 110 * mb}
		var busy bool
		var released []time.Duration
		start := time.Now()
		k := &memoryKeeper{
			sample: func() heapSample {
				mu.Lock()
				defer mu.Unlock()
				looks++
				if busy {
					heap.allocated += 10 * mb
				}
				return heap
			},
			release: func() {
				mu.Lock()
				defer mu.Unlock()
				released = append(released, time.Since(start))
				heap.objects, heap.free = heap.live, 0
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); k.run(ctx) }()
		change := func(f func()) {
			mu.Lock()
			defer mu.Unlock()
			f()
		}
		want := func(what string, at ...time.Duration) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(released) != len(at) {
				t.Fatalf("%s: given back at %v, want %v", what, released, at)
			}
			for i := range at {
				if d := released[i] - at[i]; d < 0 || d > memoryIdle {
					t.Fatalf("%s: given back at %v, want %v", what, released, at)
				}
			}
		}
		time.Sleep(10*time.Second + 100*time.Millisecond)
		want("10 MB of 100")
		change(func() {
			if looks > 10 {
				t.Errorf("%d looks in ten quiet seconds", looks)
			}
			heap.objects += 10 * mb
			busy = true
			heap.free = 20 * mb
		})
		time.Sleep(10 * time.Second)
		want("40 MB of 100, busy")
		change(func() { busy = false })
		time.Sleep(5 * time.Second)
		want("quiet again", 20*time.Second+100*time.Millisecond)
		change(func() { heap.free = 25 * mb })
		time.Sleep(10 * time.Second)
		want("25 MB more", 20*time.Second+100*time.Millisecond, 25*time.Second+100*time.Millisecond)
		change(func() { heap.free = 30 * mb })
		time.Sleep(time.Second)
		change(func() { heap.free = 30 * mb })
		time.Sleep(10 * time.Second)
		want("at once when the last time is long ago, and not again within the pause", 20*time.Second+100*time.Millisecond, 25*time.Second+100*time.Millisecond,
			35*time.Second+100*time.Millisecond, 40*time.Second+100*time.Millisecond)
		cancel()
		<-done
	})
}

// The runtime's figures mean what the keeper takes them for.
func TestMemoryOfTheRuntime(t *testing.T) {
	k := newMemoryKeeper()
	k.release()
	before := k.sample()
	kept := make([][]byte, 0, 64)
	for range cap(kept) {
		kept = append(kept, make([]byte, 1<<20))
	}
	now := k.sample()
	if grown := now.allocated - before.allocated; grown < 64<<20 {
		t.Errorf("64 MB were allocated, the runtime says %d bytes", grown)
	}
	k.release()
	if now = k.sample(); now.live < 64<<20 || now.gain() > memoryLeast {
		t.Errorf("64 MB in use: %+v", now)
	}
	runtime.KeepAlive(kept)
	kept = nil
	k.release()
	if now = k.sample(); now.live > 32<<20 || now.gain() > memoryLeast {
		t.Errorf("nothing in use any more: %+v", now)
	}
}
