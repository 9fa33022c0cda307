package cli

import (
	"flag"
	"net/http"
	"net/url"
)

func raftTransferLeader() *command {
	return &command{
		name:     "operator raft transfer-leader",
		synopsis: "Have another server lead",
		help: `
Hands leadership to another server, as before a leader's machine is taken down.
Writes wait meanwhile, for less than a second. Without -id the server whose log is
furthest takes over.

    $ landbridge operator raft transfer-leader
    $ landbridge operator raft transfer-leader -id=8f8ba4dd-4e1a-4b26-92a0-3e5e4f6d5a0c`,
		setup: func(fs *flag.FlagSet) run {
			id := fs.String("id", "", "Server that shall lead: a voter. `ID`")
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				q := url.Values{}
				if *id != "" {
					q.Set("id", *id)
				}
				resp, err := cl.Do(c.ctx, http.MethodPost, "/v1/operator/raft/transfer-leader", q, nil)
				if err != nil {
					return failf("Error transfering leadership: Failed to transfer leadership %w", err)
				}
				c.println("Success")
				return resp.Body.Close()
			}
		},
	}
}
