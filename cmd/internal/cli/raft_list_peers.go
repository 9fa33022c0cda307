package cli

import (
	"flag"
	"fmt"

	"landbridge/cmd/internal/client"
)

func raftListPeers() *command {
	return &command{
		name:     "operator raft list-peers",
		synopsis: "List the servers of the Raft group",
		help: `
Lists the servers that keep the datacenter's state, who leads them, and how far
each is behind the leader. With -stale any server answers, also when there is no
leader.

    $ landbridge operator raft list-peers
    $ landbridge operator raft list-peers -stale`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				var raft client.RaftConfiguration
				if err := cl.Get(c.ctx, "/v1/operator/raft/configuration", nil, &raft); err != nil {
					return failf("Error getting peers: Failed to retrieve raft configuration: %w", err)
				}
				if *format == "json" {
					return c.printJSON(raft.Servers)
				}
				var last uint64
				for _, s := range raft.Servers {
					if s.Leader {
						last = s.LastIndex
					}
				}
				rows := [][]string{{"Node", "ID", "Address", "State", "Voter", "RaftProtocol", "Commit Index", "Trails Leader By"}}
				for _, s := range raft.Servers {
					state, trails := "follower", "-"
					switch {
					case s.Leader:
						state = "leader"
					case s.LastIndex > 0 && last >= s.LastIndex:
						trails = plural(last-s.LastIndex, "commit")
					}
					protocol := s.ProtocolVersion
					if protocol == "" {
						protocol = "<=1"
					}
					rows = append(rows, []string{printable(s.Node), s.ID, s.Address, state, fmt.Sprint(s.Voter), protocol, fmt.Sprint(s.LastIndex), trails})
				}
				columns(c.Stdout, rows, nil)
				return nil
			}
		},
	}
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
