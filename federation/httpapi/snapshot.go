package httpapi

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// typeArchive is the type that clients of snapshots know.
var typeArchive = []string{"application/x-gzip"}

// snapshotSave answers with an archive as it comes. An error after its first byte
// closes the connection, so that no client takes a part for the whole.
func (c *call) snapshotSave() error {
	req := c.request(rpc.SnapshotSave)
	if c.p.has(fStale) {
		req.Consistency = store.Stale
	}
	resp, err := c.run(req)
	if err != nil {
		return err
	}
	if resp.Stream == nil {
		return store.Errorf(store.KindInternal, "the server answered without a snapshot")
	}
	defer resp.Stream.Close()
	c.indexHeaders(resp, false)
	w := &patientWriter{w: c.w, conn: http.NewResponseController(c.w)}
	w.began = func() {
		c.status = http.StatusOK
		c.w.Header()[hType] = typeArchive
		c.w.WriteHeader(http.StatusOK)
	}
	if _, err := resp.Stream.WriteTo(w); err != nil {
		if w.began != nil {
			return err
		}
		c.lost(err)
		c.s.cfg.Logger.Warn("a snapshot broke off", "client", c.r.RemoteAddr, "err", err)
		panic(http.ErrAbortHandler)
	}
	_ = w.conn.SetWriteDeadline(time.Time{})
	return nil
}

// snapshotRestore sends the body on as it comes: it may be of any size.
func (c *call) snapshotRestore() error {
	req := c.request(rpc.SnapshotRestore)
	body := &patientBody{body: c.r.Body, conn: http.NewResponseController(c.w)}
	req.Upload = body
	_, err := c.run(req)
	if err != nil {
		return err
	}
	c.send(http.StatusOK, nil, nil)
	return nil
}

// patientWriter writes to a client that may be slow, but not dead: each piece must
// be taken within bodyTimeout.
type patientWriter struct {
	w     io.Writer
	conn  *http.ResponseController
	began func() // before the first byte; nil afterwards
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if p.began != nil {
		p.began()
		p.began = nil
	}
	// Where no deadline can be set, as in tests, none is needed.
	_ = p.conn.SetWriteDeadline(time.Now().Add(bodyTimeout))
	return p.w.Write(b)
}

// patientBody reads from such a client. Close also ends a Read under way: closing
// the body itself would wait for it.
type patientBody struct {
	body io.Reader
	conn *http.ResponseController
	over atomic.Bool // nothing more will come
}

func (p *patientBody) Read(b []byte) (int, error) {
	_ = p.conn.SetReadDeadline(time.Now().Add(bodyTimeout))
	n, err := p.body.Read(b)
	if err != nil {
		p.over.Store(true)
		// Lifted at once: it would end the wait for the client's departure, too.
		_ = p.conn.SetReadDeadline(time.Time{})
		if err != io.EOF {
			err = badRequest("reading the request's body: %w", err)
		}
	}
	return n, err
}

func (p *patientBody) Close() error {
	if !p.over.Load() {
		// What is left is not wanted: the connection ends with this request.
		_ = p.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return nil
}
