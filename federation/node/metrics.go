package node

import (
	"github.com/prometheus/client_golang/prometheus"

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
		"sessions": n.Sessions, "lock_delays": n.LockDelays,
	} {
		ch <- prometheus.MustNewConstMetric(recordsDesc, prometheus.GaugeValue, float64(v), kind)
	}
}
