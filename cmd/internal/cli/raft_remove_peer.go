package cli

import (
	"flag"
	"net/url"
)

func raftRemovePeer() *command {
	return &command{
		name:     "operator raft remove-peer",
		synopsis: "Remove a server from the Raft group",
		help: `
Removes a server from the Raft group that is gone for good and was left behind in
it, so that it no longer counts when the others vote. It needs a leader. For a
server that members still lists, use ` + "`landbridge force-leave`" + ` instead; one that
lives is added again within a minute.

Without a leader, because too many servers are gone, see
` + "`landbridge operator raft recover`" + `.

    $ landbridge operator raft list-peers
    $ landbridge operator raft remove-peer -id=8f8ba4dd-4e1a-4b26-92a0-3e5e4f6d5a0c
    $ landbridge operator raft remove-peer -address=10.0.1.12:8300`,
		setup: func(fs *flag.FlagSet) run {
			id := fs.String("id", "", "Server to remove, by its ID. `ID`")
			address := fs.String("address", "", "Server to remove, by the address list-peers shows. `IP:PORT`")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				q, what := url.Values{}, ""
				switch {
				case *id != "" && *address != "":
					return failf("Error removing peer: cannot give both an address and id")
				case *id != "":
					q.Set("id", *id)
					what = "id " + quoted(*id)
				case *address != "":
					q.Set("address", *address)
					what = "address " + quoted(*address)
				default:
					return failf("Error removing peer: an address or id is required for the peer to remove")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				if err := cl.Delete(c.ctx, "/v1/operator/raft/peer", q, nil); err != nil {
					return failf("Error removing peer: %w", err)
				}
				c.printf("Removed peer with %s\n", what)
				return nil
			}
		},
	}
}

func quoted(s string) string { return `"` + printable(s) + `"` }
