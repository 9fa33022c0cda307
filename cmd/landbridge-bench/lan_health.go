package main

import "time"

// lanHealth is S4: health of services with 3 and 100 instances, at the leader.
func lanHealth(t *trial) {
	cl := t.lan(lanOptions{servers: 3})
	leader := cl.leader()
	registerWeb(t, leader)
	t.sleep(time.Second)
	for _, query := range []string{"web?passing", "web?passing&cached", "web100?passing", "web100?passing&cached"} {
		l := t.lanLoad(cl, query, gets(leader, 64, "/v1/health/service/"+query))
		t.add(query, "size of an answer", float64(l.bytes)/float64(l.answers), "bytes", neither)
	}
}
