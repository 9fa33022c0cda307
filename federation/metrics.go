package federation

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/lan/gossip"
)

var (
	datacentersDesc = prometheus.NewDesc("landbridge_federation_datacenters",
		"Datacenters known to this server, its own included.", nil, nil)
	serversDesc = prometheus.NewDesc("landbridge_federation_servers",
		"Servers of a datacenter by what gossip says of them (alive, leaving, left, failed).", []string{"dc", "status"}, nil)
	rttDesc = prometheus.NewDesc("landbridge_federation_rtt_seconds",
		"Estimated round trip to a server of the federation.", []string{"dc", "peer"}, nil)
)

// collector reads the directory when it is scraped: series of datacenters that
// are gone go with them.
type collector struct{ d *Directory }

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- datacentersDesc
	ch <- serversDesc
	ch <- rttDesc
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	snap := c.d.Snapshot()
	ch <- prometheus.MustNewConstMetric(datacentersDesc, prometheus.GaugeValue, float64(len(c.d.Datacenters())))
	for name, dc := range snap {
		count := map[gossip.Status]int{gossip.Alive: 0, gossip.Leaving: 0, gossip.Left: 0, gossip.Failed: 0}
		for _, s := range dc.Servers {
			count[s.Status]++
			if rtt, ok := c.d.cfg.Distance(s.Name); ok {
				ch <- prometheus.MustNewConstMetric(rttDesc, prometheus.GaugeValue, float64(rtt)/float64(time.Second), name, s.Name)
			}
		}
		for status, n := range count {
			ch <- prometheus.MustNewConstMetric(serversDesc, prometheus.GaugeValue, float64(n), name, status.String())
		}
	}
}
