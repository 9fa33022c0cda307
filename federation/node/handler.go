package node

import "net/http"

// Handler is the HTTP interface as the listeners serve it: it goes through the
// same dispatcher, without a connection. It answers before Start too.
func (n *Node) Handler() http.Handler { return n.http }
