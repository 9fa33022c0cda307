package node

import (
	"context"
	"time"

	gometrics "github.com/hashicorp/go-metrics"

	"landbridge/federation/node/internal/machine"
)

// tellHost reports the machine every ten seconds, to where raft and gossip report
// too: the names are those that dashboards of such agents have.
func (n *Node) tellHost(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	before := machine.CPUTimes()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		in, now := machine.Read(n.cfg.DataDir), machine.CPUTimes()
		gauge := func(name ...string) func(v float64, labels ...gometrics.Label) {
			return func(v float64, labels ...gometrics.Label) {
				gometrics.SetGaugeWithLabels(append([]string{"host"}, name...), float32(v), labels)
			}
		}
		gauge("memory", "total")(float64(in.Memory.Total))
		gauge("memory", "available")(float64(in.Memory.Available))
		gauge("memory", "used")(float64(in.Memory.Used))
		gauge("memory", "used_percent")(in.Memory.UsedPercent)
		gauge("memory", "free")(float64(in.Memory.Free))
		disk := gometrics.Label{Name: "path", Value: in.Disk.Path}
		gauge("disk", "size")(float64(in.Disk.Total), disk)
		gauge("disk", "used")(float64(in.Disk.Used), disk)
		gauge("disk", "available")(float64(in.Disk.Free), disk)
		gauge("disk", "used_percent")(in.Disk.UsedPercent, disk)
		gauge("disk", "inodes_percent")(in.Disk.InodesUsedPercent, disk)
		gauge("uptime")(float64(in.Host.Uptime))
		for name, t := range now {
			share, ok := t.Since(before[name])
			if !ok {
				continue
			}
			cpu := gometrics.Label{Name: "cpu", Value: name}
			gauge("cpu", "user")(share.User, cpu)
			gauge("cpu", "system")(share.System, cpu)
			gauge("cpu", "idle")(share.Idle, cpu)
			gauge("cpu", "iowait")(share.IOWait, cpu)
			gauge("cpu", "total")(100-share.Idle-share.IOWait, cpu)
		}
		before = now
	}
}
