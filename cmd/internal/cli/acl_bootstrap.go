package cli

import (
	"encoding/json"
	"flag"
	"strings"

	"landbridge/cmd/internal/client"
)

func aclBootstrap() *command {
	return &command{
		name:     "acl bootstrap",
		args:     "[FILE]",
		synopsis: "Make the first token, which may do everything",
		help: `
Makes the first management token of the primary datacenter. It works once: keep
the SecretID. The secret may be chosen, in a file or on standard input ("-"):

    $ landbridge acl bootstrap
    $ uuidgen | landbridge acl bootstrap -

When the token is lost: the refusal names a number. Written to
acl-bootstrap-reset in the data folder of the leader, it lets the bootstrap
happen once more.`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(1); err != nil {
					return err
				}
				var body any
				if len(c.args) == 1 {
					arg := c.args[0]
					if arg != "-" {
						arg = "@" + arg
					}
					secret, err := c.dataArg(arg)
					if err != nil {
						return failf("Failed ACL bootstrapping: %w", err)
					}
					body = map[string]string{"BootstrapSecret": strings.TrimSpace(secret)}
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var raw json.RawMessage
				if err := cl.Put(c.ctx, "/v1/acl/bootstrap", nil, body, &raw); err != nil {
					return failf("Failed ACL bootstrapping: %w", err)
				}
				return show(c, *format, raw, func(t *aclToken) { c.printToken(t, false) })
			}
		},
	}
}

// agentTokenKinds are the words of the command and of the API.
var agentTokenKinds = map[string]string{"default": "default", "agent": "agent", "recovery": "agent_recovery", "master": "agent_recovery",
	"config_file_service_registration": "config_file_service_registration", "replication": "replication", "dns": "dns"}

func aclSetAgentToken() *command {
	return &command{
		name:     "acl set-agent-token",
		args:     "TYPE TOKEN",
		synopsis: "Give an agent a token to work with",
		help: `
Gives the agent a token for its own work, or takes it away with an empty one. It
is kept over a restart only with acl.enable_token_persistence. Types:

    default      for requests without a token, and the sync of services
    agent        for what the agent does for itself
    recovery     a secret that works on this agent without any server
    replication  for the copy of ACLs from the primary datacenter
    config_file_service_registration  for services from configuration files
    dns          for DNS queries

    $ landbridge acl set-agent-token agent 1f3b…`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				if len(c.args) != 2 {
					return usagef("Error: expected TYPE and TOKEN, got %d arguments", len(c.args))
				}
				kind, ok := agentTokenKinds[c.args[0]]
				if !ok {
					return usagef("Unknown token type")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				if err := cl.Put(c.ctx, client.Path("v1", "agent", "token", kind), nil, map[string]string{"Token": c.args[1]}, nil); err != nil {
					return failf("Failed to set ACL token %q: %w", c.args[0], err)
				}
				c.printf("ACL token %q set successfully\n", c.args[0])
				return nil
			}
		},
	}
}
