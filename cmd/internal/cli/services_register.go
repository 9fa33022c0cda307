package cli

import (
	"flag"
	"fmt"
	"net"
	"strconv"
	"time"

	"landbridge/cmd/internal/config"
)

func servicesRegister() *command {
	return &command{
		name:     "services register",
		args:     "[FILE...]",
		synopsis: "Register services with an agent",
		help: `
Registers a service with the asked agent, by flags or from definition files in
HCL or JSON, which may also say how to check it. Registering it again under the
same ID replaces it. It stays until it is deregistered, restarts included.

    $ landbridge services register -name=web -port=8080 -tag=v1

    $ cat web.hcl
    service {
      name = "web"
      port = 8080
      check { http = "http://127.0.0.1:8080/health" interval = "10s" }
    }
    $ landbridge services register web.hcl`,
		setup: func(fs *flag.FlagSet) run {
			name := fs.String("name", "", "Name of the service. `NAME`")
			id := fs.String("id", "", "ID of the service, unique at its agent (default: the name). `ID`")
			port := fs.Int("port", 0, "Port of the service. `PORT`")
			address := fs.String("address", "", "Address of the service (default: its node's). `ADDR`")
			socket := fs.String("socket", "", "Path of the service's unix socket. `PATH`")
			kind := fs.String("kind", "", "Kind of the service. `KIND`")
			var tags lines
			fs.Var(&tags, "tag", "Tag of the service; may be repeated. `TAG`")
			meta := pairs{}
			fs.Var(&meta, "meta", "Metadata of the service; may be repeated. `KEY=VALUE`")
			tagged := pairs{}
			fs.Var(&tagged, "tagged-address", "Address for a purpose such as wan; may be repeated. `NAME=ADDR:PORT`")
			api := addAPI(fs)
			return func(c *call) error {
				var list []config.Service
				switch {
				case len(c.args) > 0:
					if *name != "" {
						return failf("A service is described by flags or by files, not both")
					}
					var err error
					if list, err = servicesIn(c.args); err != nil {
						return err
					}
				case *name == "":
					return failf("Service registration requires at least one argument or flags")
				default:
					s := config.Service{ID: *id, Name: *name, Port: *port, Address: *address, SocketPath: *socket, Kind: *kind, Tags: tags, Meta: meta}
					for k, v := range tagged {
						a, err := taggedAddress(v)
						if err != nil {
							return failf("-tagged-address %s: %w", k, err)
						}
						if s.TaggedAddresses == nil {
							s.TaggedAddresses = map[string]config.ServiceAddress{}
						}
						s.TaggedAddresses[k] = a
					}
					list = []config.Service{s}
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				for _, s := range list {
					if err := cl.Put(c.ctx, "/v1/agent/service/register", nil, serviceBody(s), nil); err != nil {
						return failf("Error registering service %q: %w", s.Name, err)
					}
					c.printf("Registered service: %s\n", s.Name)
				}
				return nil
			}
		},
	}
}

// servicesIn reads the services that definition files hold.
func servicesIn(files []string) ([]config.Service, error) {
	l := config.Loader{Files: files}
	list, _, err := l.LoadDefinitions()
	if err != nil {
		return nil, failf("Error reading the definitions: %s", problems(err))
	}
	if len(list) == 0 {
		return nil, failf("No services found in %s", printable(fmt.Sprint(files)))
	}
	return list, nil
}

func taggedAddress(s string) (config.ServiceAddress, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return config.ServiceAddress{Address: s}, nil //nolint:nilerr // an address alone is fine
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return config.ServiceAddress{}, fmt.Errorf("%q is not a port", port)
	}
	return config.ServiceAddress{Address: host, Port: int(n)}, nil
}

// serviceBody is the body of a registration. What is not set is left out, so
// that the agent's defaults apply.
func serviceBody(s config.Service) map[string]any {
	b := body{}
	b.set("ID", s.ID)
	b.set("Name", s.Name)
	b.set("Kind", s.Kind)
	b.set("Port", s.Port)
	b.set("Address", s.Address)
	b.set("SocketPath", s.SocketPath)
	b.set("EnableTagOverride", s.EnableTagOverride)
	b.set("Token", s.Token)
	if len(s.Tags) > 0 {
		b["Tags"] = s.Tags
	}
	if len(s.Meta) > 0 {
		b["Meta"] = s.Meta
	}
	if s.Weights != nil {
		b["Weights"] = s.Weights
	}
	if len(s.TaggedAddresses) > 0 {
		b["TaggedAddresses"] = s.TaggedAddresses
	}
	for name, block := range map[string]any{"Proxy": s.Proxy, "Connect": s.Connect, "Locality": s.Locality} {
		if block != nil {
			b[name] = block
		}
	}
	var checks []map[string]any
	for _, c := range s.Checks {
		checks = append(checks, checkBody(c))
	}
	if checks != nil {
		b["Checks"] = checks
	}
	return b
}

// checkBody is a check within a registration.
func checkBody(c config.Check) map[string]any {
	b := body{}
	b.set("CheckID", c.ID)
	b.set("Name", c.Name)
	b.set("Notes", c.Notes)
	b.set("Token", c.Token)
	b.set("Status", c.Status)
	b.set("DockerContainerID", c.DockerContainerID)
	b.set("Shell", c.Shell)
	b.set("HTTP", c.HTTP)
	b.set("Method", c.Method)
	b.set("Body", c.Body)
	b.set("DisableRedirects", c.DisableRedirects)
	b.set("TCP", c.TCP)
	b.set("TCPUseTLS", c.TCPUseTLS)
	b.set("UDP", c.UDP)
	b.set("GRPC", c.GRPC)
	b.set("GRPCUseTLS", c.GRPCUseTLS)
	b.set("H2PING", c.H2PING)
	b.set("TLSServerName", c.TLSServerName)
	b.set("TLSSkipVerify", c.TLSSkipVerify)
	b.set("AliasNode", c.AliasNode)
	b.set("AliasService", c.AliasService)
	b.set("OSService", c.OSService)
	b.set("Interval", c.Interval)
	b.set("Timeout", c.Timeout)
	b.set("TTL", c.TTL)
	b.set("OutputMaxSize", c.OutputMaxSize)
	b.set("SuccessBeforePassing", c.SuccessBeforePassing)
	b.set("FailuresBeforeWarning", c.FailuresBeforeWarning)
	b.set("FailuresBeforeCritical", c.FailuresBeforeCritical)
	b.set("DeregisterCriticalServiceAfter", c.DeregisterCriticalServiceAfter)
	if len(c.Args) > 0 {
		b["Args"] = c.Args
	}
	if len(c.Header) > 0 {
		b["Header"] = c.Header
	}
	if c.H2PingUseTLS != nil {
		b["H2PingUseTLS"] = *c.H2PingUseTLS
	}
	return b
}

// body is a JSON object in the making.
type body map[string]any

// set adds a member unless it is zero. Durations become text.
func (b body) set(name string, v any) {
	switch x := v.(type) {
	case string:
		if x == "" {
			return
		}
	case bool:
		if !x {
			return
		}
	case int:
		if x == 0 {
			return
		}
	case time.Duration:
		if x == 0 {
			return
		}
		v = x.String()
	}
	b[name] = v
}
