package rpc

import "sync"

// maxIdleWorkers bounds the goroutines kept for the next call.
const maxIdleWorkers = 256

// workers runs calls on goroutines that are used again: a handler's stack is
// several KB deep, and growing a fresh one for each call costs more than the
// call. The last one used is used next. With no session there are none.
type workers struct {
	mu       sync.Mutex
	sessions int
	idle     []chan *serverCall
}

func (w *workers) join() {
	w.mu.Lock()
	w.sessions++
	w.mu.Unlock()
}

func (w *workers) leave() {
	w.mu.Lock()
	w.sessions--
	var idle []chan *serverCall
	if w.sessions == 0 {
		idle, w.idle = w.idle, nil
	}
	w.mu.Unlock()
	for _, c := range idle {
		close(c)
	}
}

// run has k run at once. ServeSession waits for k, and the goroutine outlives
// the last session by no more than a few instructions.
func (w *workers) run(k *serverCall) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		c <- k // holds 1 and is empty: never blocks
		return
	}
	w.mu.Unlock()
	go w.work(k)
}

func (w *workers) work(k *serverCall) {
	c := make(chan *serverCall, 1)
	for k != nil {
		k.run()
		w.mu.Lock()
		if w.sessions == 0 || len(w.idle) >= maxIdleWorkers {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, c)
		w.mu.Unlock()
		k = <-c
	}
}
