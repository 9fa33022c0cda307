package cli

import (
	"os"
	"strconv"
	"time"
)

// timerSlack is how late the kernel may wake a thread that sleeps. Go's runtime
// has one that looks after the others (sysmon): as long as anything runs it sleeps
// for 20 us at a time, which on a server that answers a few thousand requests a
// second is a quarter of all its CPU. Nothing here needs timers that fine.
const timerSlack = time.Millisecond

// relaxTimers sets the slack of all threads there are; later ones inherit it. The
// kernel lets the superuser do it (CAP_SYS_NICE); systemd does it for others
// (TimerSlackNSec= in our units). Without it all works, at a higher price.
func relaxTimers() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		f, err := os.OpenFile("/proc/"+t.Name()+"/timerslack_ns", os.O_WRONLY, 0)
		if err != nil {
			continue // it has ended
		}
		f.WriteString(strconv.FormatInt(timerSlack.Nanoseconds(), 10))
		f.Close()
	}
}
