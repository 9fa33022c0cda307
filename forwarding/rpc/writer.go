package rpc

import (
	"net"
	"sync"
	"time"
)

const (
	// maxSpare is the largest buffer kept for the next write.
	maxSpare = 256 << 10
	// outLimit is how much may wait for the connection before senders wait too.
	outLimit = 1 << 20
	// writeTimeout ends a stream whose other side takes nothing for so long.
	writeTimeout = 30 * time.Second
)

// frameWriter joins the frames of many senders into few writes: what is added
// while one write is under way goes out with the next one.
type frameWriter struct {
	mu       sync.Mutex
	conn     net.Conn
	out      []byte // whole frames that wait for a write
	spare    []byte
	appended uint64 // bytes ever added
	taken    uint64 // bytes ever handed to conn: a frame that begins below was, perhaps, sent
	busy     bool   // somebody is in flush
	err      error  // set once; nothing is added or written afterwards
	room     chan struct{}
	armed    time.Time // when the write deadline was last moved
}

// full returns nil if a frame may be added now, else a channel that is closed
// when it is worth asking again. mu is held.
func (w *frameWriter) full() <-chan struct{} {
	if len(w.out) < outLimit || w.err != nil {
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
	w.appended += uint64(len(frame))
}

// send adds one frame and writes what waits. It blocks while the other side
// takes nothing, at most until the write times out or done is closed.
func (w *frameWriter) send(frame []byte, done <-chan struct{}) error {
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
	for len(w.out) > 0 && w.err == nil {
		b := w.out
		w.out, w.spare = w.spare[:0], nil
		w.taken += uint64(len(b))
		w.wakeLocked()
		w.mu.Unlock()
		err := w.write(b)
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
