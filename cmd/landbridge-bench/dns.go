package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// dnsOp asks a node's DNS server one question over UDP.
type dnsOp struct {
	conn    net.Conn
	query   []byte
	id      uint16
	buf     []byte
	answers int // in the last response
}

// dnsQuestion connects an op; ednsSize 0 sends no EDNS, so that answers have to fit
// in 512 bytes.
func dnsQuestion(n *node, name string, kind uint16, ednsSize uint16) (*dnsOp, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	if ednsSize > 0 {
		m.SetEdns0(ednsSize, false)
	}
	query, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("question for %s: %w", name, err)
	}
	conn, err := n.dial("udp", n.dns)
	if err != nil {
		return nil, err
	}
	return &dnsOp{conn: conn, query: query, buf: make([]byte, 65536)}, nil
}

func (o *dnsOp) Close() error { return o.conn.Close() }

// do asks; an answer that is an error or empty is an error.
func (o *dnsOp) do() (size int, err error) {
	o.id++
	o.query[0], o.query[1] = byte(o.id>>8), byte(o.id)
	if err := o.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := o.conn.Write(o.query); err != nil {
		return 0, err
	}
	for {
		n, err := o.conn.Read(o.buf)
		if err != nil {
			return 0, err
		}
		if n < 12 || o.buf[0] != o.query[0] || o.buf[1] != o.query[1] {
			continue // of an earlier question that was given up
		}
		o.answers = int(o.buf[6])<<8 | int(o.buf[7])
		if code := o.buf[3] & 15; code != 0 || o.answers == 0 {
			return 0, fmt.Errorf("DNS answer %s with %d records", dns.RcodeToString[int(code)], o.answers)
		}
		return n, nil
	}
}

var dnsperfLine = regexp.MustCompile(`(?m)^\s*(Queries sent|Queries completed|Queries lost|Queries per second|Average Latency \(s\)):\s+([0-9.]+)`)

// dnsperf asks a question ("web.service.consul A") as fast as answers come, and
// charges the CPU of nodes, or of all agents, to the answers.
func (t *trial) dnsperf(kase string, at *node, question string, seconds int, more []string, nodes ...*node) {
	file := filepath.Join(t.dir, "question")
	t.check(os.WriteFile(file, []byte(question+"\n"), 0o644), kase)
	host, port, err := net.SplitHostPort(at.dns)
	t.check(err, kase)
	ctx, cancel := context.WithTimeout(t.ctx, time.Duration(seconds+20)*time.Second)
	defer cancel()
	cmd := at.command(ctx, append([]string{"dnsperf", "-s", host, "-p", port, "-d", file, "-c", "8", "-l", strconv.Itoa(seconds)}, more...)...)
	m := t.meter(nodes...)
	out, err := cmd.CombinedOutput()
	u := m.read()
	if err != nil {
		t.failf("%s: dnsperf: %v: %.400s", kase, err, out)
	}
	u.load += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	v := map[string]float64{}
	for _, m := range dnsperfLine.FindAllStringSubmatch(string(out), -1) {
		v[m[1]], _ = strconv.ParseFloat(m[2], 64) // the pattern allows numbers only
	}
	done := v["Queries completed"]
	if done == 0 || !strings.Contains(string(out), "NOERROR") {
		t.failf("%s: dnsperf got no answers: %.800s", kase, out)
	}
	t.add(kase, "rate", v["Queries per second"], "queries/s", higher)
	t.add(kase, "mean latency", 1000*v["Average Latency (s)"], "ms", lower)
	t.add(kase, "lost", 100*v["Queries lost"]/v["Queries sent"], "%", lower)
	t.add(kase, "CPU of the agents per query", float64(u.agents)/float64(time.Microsecond)/done, "us", lower)
	t.add(kase, "CPU of the load", u.percent(u.load), "% of a core", neither)
	t.add(kase, "CPU of others", u.percent(u.others()), "% of a core", neither)
}
