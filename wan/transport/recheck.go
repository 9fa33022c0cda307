package transport

import "crypto/tls"

// Recheck closes the connections whose peer would not be accepted any more, after
// trust has changed: refused says why. It returns the peers' names.
func (e *Endpoint) Recheck(refused func(peer string, cs tls.ConnectionState) error) (peers []string) {
	for _, c := range e.snapshot() {
		if c.peer == "" {
			continue // enrolling
		}
		if err := refused(c.peer, c.quic.ConnectionState().TLS); err != nil {
			peers = append(peers, c.peer)
			_ = c.quic.CloseWithError(codeRefused, closeText(err))
		}
	}
	return peers
}
