package main

import (
	"fmt"
	"time"
)

// lanStartup is S1: the size of the binary, how long a cluster takes from nothing
// to its first acknowledged write, and what it costs while nothing is asked of it.
func lanStartup(t *trial) {
	t.add("binary", "size", float64(t.binary.Bytes)/(1<<20), "MiB", lower)
	for _, fast := range []bool{false, true} {
		for _, servers := range []int{1, 3} {
			kase := fmt.Sprintf("%d server(s), %s", servers, tuning(fast))
			for i := range t.num(2, 1) {
				t0 := time.Now()
				cl := t.newLAN(lanOptions{servers: servers, fast: fast})
				start(cl.servers)
				t.waitWritable(cl.servers[:1], 90*time.Second)
				t.add(kase, "start to first acknowledged PUT", time.Since(t0).Seconds(), "s", lower)
				if !fast && i == 0 {
					cl.waitCatalog(servers, 30*time.Second)
					t.sleep(t.dur(5*time.Second, time.Second))
					t.add(kase, "idle CPU, all servers", t.idleCPU(cl.servers, t.dur(10*time.Second, 2*time.Second)), "% of a core", lower)
					t.add(kase, "idle RSS per server", meanRSS(cl.servers), "MiB", lower)
				}
				stopAll(cl.all())
			}
		}
	}
}
