package cli

import (
	"encoding/json"
	"flag"
	"strings"

	"landbridge/cmd/internal/client"
)

// apiFlags are the flags of commands that ask an agent.
type apiFlags struct {
	opts      client.Options
	namespace string
	partition string
}

// addAPI declares the flags of commands that ask an agent.
func addAPI(fs *flag.FlagSet) *apiFlags {
	a := &apiFlags{}
	o := &a.opts
	fs.StringVar(&o.Addr, "http-addr", "", "Agent to ask: IP:PORT, http(s)://HOST:PORT or unix://PATH. Without it the environment's LANDBRIDGE_HTTP_ADDR or CONSUL_HTTP_ADDR, else http://127.0.0.1:8500. `ADDR`")
	fs.StringVar(&o.Token, "token", "", "ACL token. Without it CONSUL_HTTP_TOKEN. `TOKEN`")
	fs.StringVar(&o.TokenFile, "token-file", "", "File with the ACL token. Without it CONSUL_HTTP_TOKEN_FILE. `FILE`")
	fs.StringVar(&o.CAFile, "ca-file", "", "Certificate authority to verify the agent by. Without it CONSUL_CACERT. `FILE`")
	fs.StringVar(&o.CAPath, "ca-path", "", "Directory of certificate authorities. Without it CONSUL_CAPATH. `DIR`")
	fs.StringVar(&o.ClientCert, "client-cert", "", "Certificate to show to the agent. Without it CONSUL_CLIENT_CERT. `FILE`")
	fs.StringVar(&o.ClientKey, "client-key", "", "Key of -client-cert. Without it CONSUL_CLIENT_KEY. `FILE`")
	fs.StringVar(&o.ServerName, "tls-server-name", "", "Name to expect in the agent's certificate. Without it CONSUL_TLS_SERVER_NAME. `NAME`")
	fs.StringVar(&o.Datacenter, "datacenter", "", "Datacenter that shall answer (default: the agent's own). `NAME`")
	fs.BoolVar(&o.Stale, "stale", false, "Let any server answer, not only the leader: faster, maybe a little old.")
	fs.StringVar(&a.namespace, "namespace", "", "Accepted for compatibility; only default. `NAME`")
	fs.StringVar(&a.partition, "partition", "", "Accepted for compatibility; only default. `NAME`")
	return a
}

// noArgs is client for commands that take flags only.
func (a *apiFlags) noArgs(c *call) (*client.Client, error) {
	if err := c.atMost(0); err != nil {
		return nil, err
	}
	return a.client(c)
}

// show is a command without arguments that gets path: it prints the answer as it
// came, or decodes it into v and has print show that. failed begins the errors.
func (a *apiFlags) show(c *call, format, path, failed string, v any, print func()) error {
	if err := c.atMost(0); err != nil {
		return err
	}
	cl, err := a.client(c)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := cl.Get(c.ctx, path, nil, &raw); err != nil {
		return failf("%s: %w", failed, err)
	}
	if format == "json" {
		return c.printJSON(raw)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return failf("%s: %w", failed, err)
	}
	print()
	return nil
}

// client makes the client the flags and the environment ask for.
func (a *apiFlags) client(c *call) (*client.Client, error) {
	for _, f := range [][2]string{{"namespace", a.namespace}, {"partition", a.partition}} {
		if v := strings.ToLower(f[1]); v != "" && v != "default" {
			return nil, failf("-%s %q: landbridge has no %ss; only default is accepted", f[0], f[1], f[0])
		}
	}
	opts, err := a.opts.FromEnv(c.Getenv)
	if err != nil {
		return nil, failf("%w", err)
	}
	cl, err := client.New(opts)
	if err != nil {
		return nil, failf("Error connecting to the agent: %w", err)
	}
	return cl, nil
}
