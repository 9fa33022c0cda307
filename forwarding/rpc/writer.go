package rpc

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// maxSpare is the largest buffer kept for the next write.
	maxSpare = 64 << 10
	// copyBelow is the size from which a body is not copied to be joined.
	copyBelow = 16 << 10
	// outLimit is how much may wait for the connection before senders wait too.
	outLimit = 1 << 20
	// writeTimeout ends a stream whose other side takes nothing for so long.
	writeTimeout = 30 * time.Second
)

// frameWriter joins the frames of many senders into few writes: what is added
// while one write is under way goes out with the next one. Large bodies are
// written from where they are.
type frameWriter struct {
	mu       sync.Mutex
	conn     net.Conn
	out      []byte   // whole frames that wait for a write; the last may lack its body
	before   [][]byte // what comes before out: earlier values of out, and bodies
	waiting  int      // bytes in out and before
	spare    []byte
	appended uint64 // bytes ever added
	taken    uint64 // bytes ever taken for conn: a frame that begins below was, perhaps, sent
	busy     bool   // somebody is in flush
	err      error  // set once; nothing is added or written afterwards
	room     chan struct{}
	armed    time.Time // when the write deadline was last moved
}

// full returns nil if a frame may be added now, else a channel that is closed
// when it is worth asking again. mu is held.
func (w *frameWriter) full() <-chan struct{} {
	if w.waiting < outLimit || w.err != nil {
		return nil
	}
	if w.room == nil {
		w.room = make(chan struct{})
	}
	return w.room
}

// add appends one whole frame. mu is held, err is nil.
func (w *frameWriter) add(frame []byte) {
	w.out = append(w.out, frame...)
	w.waiting += len(frame)
	w.appended += uint64(len(frame))
}

// addBody appends the rest of the frame just added. A large body is kept, not
// copied, and must not change any more.
func (w *frameWriter) addBody(body []byte) {
	if len(body) < copyBelow {
		w.add(body)
		return
	}
	w.before = append(w.before, w.out, body)
	w.out, w.spare = w.spare[:0], nil
	w.waiting += len(body)
	w.appended += uint64(len(body))
}

// send adds one frame, of which body may be apart, and writes what waits. It
// blocks while the other side takes nothing, at most until the write times out
// or done is closed.
func (w *frameWriter) send(frame, body []byte, done <-chan struct{}) error {
	w.mu.Lock()
	for {
		if w.err != nil {
			defer w.mu.Unlock()
			return w.err
		}
		room := w.full()
		if room == nil {
			break
		}
		w.mu.Unlock()
		select {
		case <-room:
		case <-done:
		}
		w.mu.Lock()
		if isClosed(done) && w.full() != nil {
			defer w.mu.Unlock()
			return net.ErrClosed
		}
	}
	w.add(frame)
	w.addBody(body)
	return w.flushLocked()
}

// flushLocked writes until nothing waits, unless somebody else is doing so
// already. It is entered with mu held and returns without it.
func (w *frameWriter) flushLocked() error {
	if w.busy || w.err != nil {
		err := w.err
		w.mu.Unlock()
		return err
	}
	w.busy = true
	for w.waiting > 0 && w.err == nil {
		// Let those run first who are about to add frames, having been woken by
		// the same read as we: a write costs more than all of them. (Measured:
		// 18 us of CPU per call without, 4.5 with.)
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
		if w.err != nil {
			break
		}
		before, b := w.before, w.out
		w.out, w.spare, w.before, w.waiting = w.spare[:0], nil, nil, 0
		w.taken = w.appended
		w.wakeLocked()
		w.mu.Unlock()
		var err error
		for _, p := range before {
			if len(p) > 0 && err == nil {
				err = w.write(p)
			}
		}
		if len(b) > 0 && err == nil {
			err = w.write(b)
		}
		w.mu.Lock()
		if cap(b) <= maxSpare {
			w.spare = b
		}
		if err != nil && w.err == nil {
			w.err = err
			w.wakeLocked()
		}
	}
	w.busy = false
	err := w.err
	w.mu.Unlock()
	return err
}

// write is called by one goroutine at a time, the one that set busy.
func (w *frameWriter) write(b []byte) error {
	// Moving the deadline once a second is enough for a time-out of 30.
	if now := time.Now(); now.Sub(w.armed) > time.Second {
		w.armed = now
		if err := w.conn.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
			return err
		}
	}
	_, err := w.conn.Write(b)
	return err
}

// fail ends the writer; it does not close the connection.
func (w *frameWriter) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.wakeLocked()
	w.mu.Unlock()
}

func (w *frameWriter) wakeLocked() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// buffers holds encoding buffers; one that grew large is left to the collector.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= 64<<10 {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
