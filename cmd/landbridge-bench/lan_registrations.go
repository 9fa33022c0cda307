package main

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// lanRegistrations is S14: 500 services are registered with a client agent, many
// at once and one by one, and deregistered.
func lanRegistrations(t *trial) {
	cl := t.lan(lanOptions{servers: 3, clients: 1})
	agent, server := cl.clients[0], cl.leader()
	count := t.num(500, 50)
	kase := fmt.Sprintf("%d services on a client agent", count)
	t.sleep(3 * time.Second)

	catalogHas := func(want int) {
		t.check(t.until(90*time.Second, 5*time.Millisecond, fmt.Sprintf("%d services in the catalog", want), func() error {
			answer, err := server.request("GET", "/v1/catalog/services", nil, 5*time.Second)
			if n := bytes.Count(answer, []byte(`"churn-`)); err == nil && n != want {
				err = fmt.Errorf("%d are", n)
			}
			return err
		}), kase)
	}
	m := t.meter()
	t.putAll(agent, count, 8, func(i int) (string, []byte) {
		return "/v1/agent/service/register", agentService(fmt.Sprintf("churn-%d", i))
	})
	acked := time.Now()
	t.add(kase, "register all, c=8", m.read().took.Seconds(), "s", lower)
	catalogHas(count)
	t.add(kase, "last acknowledgement to all in the catalog", milliseconds(time.Since(acked)), "ms", lower)
	t.add(kase, "CPU of the agents per registration", float64(m.read().agents.Microseconds())/float64(count), "us", lower)

	t.registerOneByOne(kase, agent, server, t.num(100, 20))

	m = t.meter()
	t.putAll(agent, count, 8, func(i int) (string, []byte) {
		return fmt.Sprintf("/v1/agent/service/deregister/churn-%d", i), nil
	})
	acked = time.Now()
	t.add(kase, "deregister all, c=8", m.read().took.Seconds(), "s", lower)
	catalogHas(0)
	t.add(kase, "last acknowledgement to all gone", milliseconds(time.Since(acked)), "ms", lower)
}

func agentService(name string) []byte {
	return fmt.Appendf(nil, `{"ID":%q,"Name":%q,"Port":8000,"Tags":["v1"],"Check":{"CheckID":"ttl:%s","TTL":"600s","Status":"passing"}}`, name, name, name)
}

// registerOneByOne registers services one after the other, each watched by a
// blocking query at the server, and records when that is answered.
func (t *trial) registerOneByOne(kase string, agent, server *node, count int) {
	watch, writer := server.client(), agent.client()
	defer watch.Close()
	defer writer.Close()
	var lag, total []time.Duration
	for i := range count {
		name := fmt.Sprintf("single-%d", i)
		path := "/v1/health/service/" + name
		t.check(watch.get(path, 30*time.Second), "watch "+name)
		type seen struct {
			at  time.Time
			err error
		}
		visible := make(chan seen, 1)
		go func() {
			var err error
			for tries := 0; err == nil && len(watch.body) < 10 && tries < 1000; tries++ { // "[]" until it is there
				err = watch.get(fmt.Sprintf("%s?index=%d&wait=20s", path, max(1, watch.index)), 30*time.Second)
			}
			visible <- seen{time.Now(), err}
		}()
		t.sleep(20 * time.Millisecond) // the query waits
		sent := time.Now()
		t.check(writer.put("/v1/agent/service/register", agentService(name), 30*time.Second), "register "+name)
		acked := time.Now()
		s := <-visible
		t.check(s.err, "watch "+name)
		lag = append(lag, max(0, s.at.Sub(acked)))
		total = append(total, s.at.Sub(sent))
	}
	slices.Sort(lag)
	slices.Sort(total)
	t.addLatencies(kase, "one registration, acknowledged to seen, ", lag, .5, .99)
	t.addLatencies(kase, "one registration, sent to seen, ", total, .5, .99)
}
