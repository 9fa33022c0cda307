package check

import "fmt"

// Cut shortens an output to its last limit bytes, and says how much there was.
func Cut(output string, limit int) string {
	if len(output) <= limit {
		return output
	}
	return captured(limit, int64(len(output)), output[len(output)-limit:])
}

func captured(limit int, total int64, last string) string {
	return fmt.Sprintf("Captured %d of %d bytes\n...\n%s", limit, total, last)
}

// tail keeps the last bytes that are written to it.
type tail struct {
	limit int
	buf   []byte // a ring once it has limit bytes
	next  int    // where the oldest byte is then
	total int64
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	t.total += int64(n)
	if len(p) > t.limit {
		p = p[len(p)-t.limit:]
	}
	if room := t.limit - len(t.buf); room > 0 {
		first := p[:min(room, len(p))]
		t.buf, p = append(t.buf, first...), p[len(first):]
	}
	for len(p) > 0 {
		c := copy(t.buf[t.next:], p)
		p = p[c:]
		t.next = (t.next + c) % t.limit
	}
	return n, nil
}

func (t *tail) String() string {
	if t.total <= int64(t.limit) {
		return string(t.buf)
	}
	return captured(t.limit, t.total, string(t.buf[t.next:])+string(t.buf[:t.next]))
}
