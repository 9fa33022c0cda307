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
	reachableDesc = prometheus.NewDesc("landbridge_federation_reachable",
		"Whether a server of another datacenter was heard lately and answered the last call (1), or not (0).", []string{"dc", "peer"}, nil)
	relayedDesc = prometheus.NewDesc("landbridge_federation_relayed",
		"Whether calls to a server of another datacenter go through a server of a third (1), or not (0).", []string{"dc", "peer"}, nil)
	lossDesc = prometheus.NewDesc("landbridge_federation_loss_ratio",
		"Share of the packets sent to a server of another datacenter in the last five minutes that were lost; absent if too few were sent to tell.", []string{"dc", "peer"}, nil)
	contactDesc = prometheus.NewDesc("landbridge_federation_last_contact_seconds",
		"Since when nothing has arrived from a server of another datacenter; absent if nothing ever did.", []string{"dc", "peer"}, nil)
)

// collector reads the directory when it is scraped: series of datacenters that
// are gone go with them.
type collector struct{ d *Directory }

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- datacentersDesc
	ch <- serversDesc
	ch <- rttDesc
	ch <- reachableDesc
	ch <- relayedDesc
	ch <- lossDesc
	ch <- contactDesc
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	snap, now := c.d.Snapshot(), time.Now()
	for _, l := range c.d.Links() {
		reachable := 0.0
		if l.Reachable {
			reachable = 1
		}
		ch <- prometheus.MustNewConstMetric(reachableDesc, prometheus.GaugeValue, reachable, l.Datacenter, l.To)
		relayed := 0.0
		if l.Via != "" {
			relayed = 1
		}
		ch <- prometheus.MustNewConstMetric(relayedDesc, prometheus.GaugeValue, relayed, l.Datacenter, l.To)
		if l.Loss != nil {
			ch <- prometheus.MustNewConstMetric(lossDesc, prometheus.GaugeValue, *l.Loss, l.Datacenter, l.To)
		}
		if !l.LastContact.IsZero() {
			ch <- prometheus.MustNewConstMetric(contactDesc, prometheus.GaugeValue, max(now.Sub(l.LastContact).Seconds(), 0), l.Datacenter, l.To)
		}
	}
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
