package check

import (
	"net/http"
	"testing"

	"landbridge/store"
)

func TestTCP(t *testing.T) {
	plain, secure := server(t, false, http.NotFoundHandler()), server(t, true, http.NotFoundHandler())
	open, safe, nobody := plain.Listener.Addr().String(), secure.Listener.Addr().String(), closedPort
	trusts := trusting(secure)
	for name, c := range map[string]struct {
		probe          TCP
		status, output string
	}{
		"open":              {TCP{Address: open}, store.Passing, "TCP connect " + open + ": Success"},
		"refused":           {TCP{Address: nobody}, store.Critical, "dial tcp " + nobody + ": connect: connection refused"},
		"no port":           {TCP{Address: "127.0.0.1"}, store.Critical, "dial tcp: address 127.0.0.1: missing port in address"},
		"tls":               {TCP{Address: safe, TLS: &trusts}, store.Passing, "TCP connect " + safe + ": Success"},
		"unknown authority": {TCP{Address: safe, TLS: &TLS{}}, store.Critical, unknownAuthority},
		"skip verify":       {TCP{Address: safe, TLS: &TLS{SkipVerify: true}}, store.Passing, "TCP connect " + safe + ": Success"},
		"no tls there":      {TCP{Address: open, TLS: &trusts}, store.Critical, "tls: first record does not look like a TLS handshake"},
		"tls, no port":      {TCP{Address: "x", TLS: &trusts}, store.Critical, "address x: missing port in address"},
	} {
		t.Run(name, func(t *testing.T) { wants(t, &c.probe, c.status, c.output) })
	}
}
