package main

import "time"

// wanIdle is W7: what federations send and use while nothing is asked of them;
// bytes are of IP packets, both directions.
func wanIdle(t *trial) {
	five := topology{dcs: 5, servers: 1, joined: true, link: twoDCs().link}
	for _, x := range []struct {
		kase string
		topology
	}{{"2x3 servers", twoDCs()}, {"5x1 servers", five}} {
		f := t.wan(x.topology)
		t.sleep(t.dur(10*time.Second, 3*time.Second))
		servers := float64(len(f.servers()))
		m := t.meter(f.servers()...)
		r := f.idle(t.dur(time.Minute, 10*time.Second))
		u := m.read()
		t.add(x.kase, "WAN bytes/s per server", r.bytes/servers, "B/s", lower)
		t.add(x.kase, "WAN packets/s per server", r.packets/servers, "1/s", lower)
		t.add(x.kase, "of these, UDP bytes/s per server", r.udp/servers, "B/s", neither)
		for _, port := range []string{"udp/8302", "tcp/8302", "tcp/8300"} {
			t.add(x.kase, "of these, "+port+" bytes/s per server", r.ports[port]/servers, "B/s", neither)
		}
		t.add(x.kase, "CPU of a server", u.percent(u.agents)/servers, "% of a core", lower)
		t.add(x.kase, "RSS per server", meanRSS(f.servers()), "MiB", lower)
		f.close()
	}
}

// rates is traffic per second.
type rates struct {
	packets, bytes, udp float64
	ports               map[string]float64
}

// idle measures what crosses the links during d.
func (f *federation) idle(d time.Duration) rates {
	before, begin := f.traffic(), time.Now()
	f.t.sleep(d)
	after := f.traffic()
	s := time.Since(begin).Seconds()
	r := rates{(after.Packets - before.Packets) / s, (after.Bytes - before.Bytes) / s, (after.UDPBytes - before.UDPBytes) / s, map[string]float64{}}
	for port, v := range after.Ports {
		r.ports[port] = (v.Bytes - before.Ports[port].Bytes) / s
	}
	return r
}
