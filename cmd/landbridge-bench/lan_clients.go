package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// lanClients is S12: 20 client agents start at once, idle, and die.
func lanClients(t *trial) {
	count := t.num(20, 5)
	cl := t.newLAN(lanOptions{servers: 3, clients: count})
	start(cl.servers)
	t.waitWritable(cl.servers, time.Minute)
	server := cl.leader()
	kase := fmt.Sprintf("3 servers and %d client agents", count)
	t0 := time.Now()
	start(cl.clients)
	t.check(t.until(90*time.Second, 20*time.Millisecond, "all agents are alive", func() error {
		var members []struct{ Status int }
		if err := server.get("/v1/agent/members", &members); err != nil {
			return err
		}
		alive := 0
		for _, m := range members {
			if m.Status == 1 {
				alive++
			}
		}
		if alive != 3+count {
			return fmt.Errorf("%d are", alive)
		}
		return nil
	}), kase)
	t.add(kase, "start to all alive in agent/members", time.Since(t0).Seconds(), "s", lower)
	cl.waitCatalog(3+count, time.Minute)
	t.add(kase, "start to all in catalog/nodes", time.Since(t0).Seconds(), "s", lower)
	t.sleep(t.dur(15*time.Second, 5*time.Second))
	t.add(kase, "RSS per client agent", meanRSS(cl.clients), "MiB", lower)
	clients, servers := t.meter(cl.clients...), t.meter(cl.servers...)
	t.sleep(t.dur(15*time.Second, 5*time.Second))
	u := clients.read()
	t.add(kase, "idle CPU, all client agents", u.percent(u.agents), "% of a core", lower)
	u = servers.read()
	t.add(kase, "idle CPU, all servers", u.percent(u.agents), "% of a core", lower)
	for _, victim := range cl.clients[:t.num(2, 1)] {
		dead := time.Now()
		victim.kill()
		t.check(t.until(90*time.Second, 20*time.Millisecond, "serfHealth is critical", func() error {
			answer, err := server.request("GET", "/v1/health/state/critical", nil, 2*time.Second)
			if err == nil && !bytes.Contains(answer, []byte(`"`+victim.name+`"`)) {
				err = errors.New("it is not")
			}
			return err
		}), victim.name)
		t.add(kase, "kill -9 of a client agent to serfHealth critical", time.Since(dead).Seconds(), "s", lower)
	}
}
