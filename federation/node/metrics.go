package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"landbridge/federation/node/internal/machine"
	"landbridge/lan/gossip"
	"landbridge/store/consensus"
	"landbridge/store/state"
)

var recordsDesc = prometheus.NewDesc("landbridge_store_records",
	"Records in this server's copy of the state, by kind.", []string{"kind"}, nil)

// storeCollector reads the store's sizes when it is scraped.
type storeCollector struct{ st *state.Store }

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) { ch <- recordsDesc }

func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.st.Counts()
	for kind, v := range map[string]int{
		"kv": n.KVEntries, "kv_tombstones": n.KVTombstones, "nodes": n.Nodes, "services": n.Services,
		"service_instances": n.ServiceInstances, "checks": n.Checks, "watches": n.Watches,
		"sessions": n.Sessions, "lock_delays": n.LockDelays, "connect_instances": total(n.ConnectInstances),
	} {
		ch <- prometheus.MustNewConstMetric(recordsDesc, prometheus.GaugeValue, float64(v), kind)
	}
}

func total(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

var (
	appliedDesc = prometheus.NewDesc("landbridge_consensus_applied_index", "The last entry of the Raft log that this server has applied.", nil, nil)
	lastDesc    = prometheus.NewDesc("landbridge_consensus_last_index", "The last entry of this server's Raft log.", nil, nil)
	agentsDesc  = prometheus.NewDesc("landbridge_lan_agents", "Agents of the datacenter that gossip thinks alive, by role.", []string{"dc", "role"}, nil)
)

// raftCollector reads how far the log is when it is scraped.
type raftCollector struct{ raft *consensus.Node }

func (c *raftCollector) Describe(ch chan<- *prometheus.Desc) { ch <- appliedDesc; ch <- lastDesc }

func (c *raftCollector) Collect(ch chan<- prometheus.Metric) {
	var applied, last uint64
	if r := c.raft.Raft(); r != nil {
		applied, last = r.AppliedIndex(), r.LastIndex()
	}
	ch <- prometheus.MustNewConstMetric(appliedDesc, prometheus.GaugeValue, float64(applied))
	ch <- prometheus.MustNewConstMetric(lastDesc, prometheus.GaugeValue, float64(last))
}

// agentsCollector counts the members of the LAN pool when it is scraped.
type agentsCollector struct {
	dc      string
	members func() []gossip.Member
}

func (c *agentsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- agentsDesc }

func (c *agentsCollector) Collect(ch chan<- prometheus.Metric) {
	var servers, clients int
	for _, m := range c.members() {
		switch {
		case m.Status != gossip.Alive:
		case m.Tags["role"] == "consul":
			servers++
		default:
			clients++
		}
	}
	ch <- prometheus.MustNewConstMetric(agentsDesc, prometheus.GaugeValue, float64(servers), c.dc, "server")
	ch <- prometheus.MustNewConstMetric(agentsDesc, prometheus.GaugeValue, float64(clients), c.dc, "client")
}

var (
	freeDesc = prometheus.NewDesc("landbridge_agent_data_free_bytes", "Room left for data_dir on its file system.", nil, nil)
	sizeDesc = prometheus.NewDesc("landbridge_agent_data_size_bytes", "Size of the file system of data_dir.", nil, nil)
)

// machineMetrics are what the agent says of its machine without being told to.
type machineMetrics struct {
	dir        string // data_dir; "": in memory
	clockJumps prometheus.Counter
}

func newMachineMetrics(reg prometheus.Registerer, dir string) *machineMetrics {
	m := &machineMetrics{dir: dir, clockJumps: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "landbridge_agent_clock_jumps_total",
		Help: "Times the machine's clock was set by more than a second.",
	})}
	reg.MustRegister(m)
	return m
}

func (m *machineMetrics) Describe(ch chan<- *prometheus.Desc) {
	m.clockJumps.Describe(ch)
	ch <- freeDesc
	ch <- sizeDesc
}

func (m *machineMetrics) Collect(ch chan<- prometheus.Metric) {
	m.clockJumps.Collect(ch)
	if m.dir == "" {
		return
	}
	if free, size, err := machine.Room(m.dir); err == nil {
		ch <- prometheus.MustNewConstMetric(freeDesc, prometheus.GaugeValue, float64(free))
		ch <- prometheus.MustNewConstMetric(sizeDesc, prometheus.GaugeValue, float64(size))
	}
}
