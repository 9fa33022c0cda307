package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns a registry that already has the Go runtime's and the
// process's own series.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg
}

// NewBuildInfo registers landbridge_build_info, which is 1 and carries versions.
func NewBuildInfo(reg prometheus.Registerer, release, compatible string) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "landbridge_build_info",
		Help: "1, labelled with landbridge's release and the API version it is compatible with.",
	}, []string{"release", "compatible"})
	reg.MustRegister(g)
	g.WithLabelValues(release, compatible).Set(1)
}

// Handler serves the text format. A collector that fails costs its own series
// only: the rest is still answered.
func Handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}
