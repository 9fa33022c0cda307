package agent

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"landbridge/store"
)

// jsonService decodes a body as the API does.
func jsonService(t *testing.T, body string) *ServiceDefinition {
	t.Helper()
	d, err := DecodeService([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func sidecarPorts(cfg *Config, _ *catalog) { cfg.SidecarMinPort, cfg.SidecarMaxPort = 21000, 21002 }

func TestSidecarOfAService(t *testing.T) {
	in(t, sidecarPorts, func(t *testing.T, a *Agent, c *catalog) {
		ctx := t.Context()
		add := func(body string) error { return a.AddService(ctx, jsonService(t, body), false) }
		if err := add(`{"Name":"db","ID":"db1","Port":5432,"Tags":["a"],"Meta":{"k":"v"},"Connect":{"SidecarService":{}}}`); err != nil {
			t.Fatal(err)
		}
		side := c.service("db1-sidecar-proxy")
		if side == nil {
			t.Fatal("no sidecar in the catalog")
		}
		const proxy = `{"DestinationServiceID":"db1","DestinationServiceName":"db","LocalServiceAddress":"127.0.0.1","LocalServicePort":5432}`
		if side.Kind != ConnectProxy || side.Name != "db-sidecar-proxy" || side.Port != 21000 || string(side.Proxy) != proxy ||
			fmt.Sprint(side.Tags, side.Meta) != "[a] map[k:v]" || side.ConnectTarget() != "db" {
			t.Errorf("the sidecar: %s", side.AppendJSON(nil))
		}
		if got := c.check("service:db1-sidecar-proxy:1"); got == nil || got.Name != "Connect Sidecar Listening" || got.Type != "tcp" || got.Interval != "10s" {
			t.Errorf("its first check: %v", got)
		}
		if got := c.check("service:db1-sidecar-proxy:2"); got == nil || got.Name != "Connect Sidecar Aliasing db1" || got.Type != "alias" {
			t.Errorf("its second check: %v", got)
		}
		if got := string(c.service("db1").Connect); got != `{"SidecarService":{}}` {
			t.Errorf("the block of its service: %s", got)
		}
		// Again: the same port, though lower ones might be free by now.
		_ = a.AddService(ctx, &ServiceDefinition{Name: "other", Port: 21001}, false)
		_ = add(`{"Name":"web","Connect":{"SidecarService":{"Name":"webproxy","Proxy":{"Upstreams":[{"destination_name":"db","local_bind_port":9}],"config":{"local_x":1}},"Checks":[{"TTL":"9s"}]}}}`)
		_ = a.RemoveService(ctx, "db1")
		_ = add(`{"Name":"web","Port":80,"Connect":{"SidecarService":{"Name":"webproxy"}}}`)
		web := c.service("web-sidecar-proxy")
		if web == nil || web.Port != 21002 || web.Name != "webproxy" {
			t.Errorf("the sidecar of web: %v", web)
		}
		if c.service("db1-sidecar-proxy") != nil || c.check("service:db1-sidecar-proxy:1") != nil {
			t.Error("a sidecar outlives its service")
		}
		if err := add(`{"Name":"x1","Connect":{"SidecarService":{}}}`); err != nil || c.service("x1-sidecar-proxy").Port != 21000 {
			t.Errorf("the port that is free again: %v", err)
		}
		err := add(`{"Name":"x2","Connect":{"SidecarService":{}}}`)
		if store.KindOf(err) != store.KindInvalid || !strings.Contains(err.Error(), "no free port for the sidecar of service \"x2\" between 21000 and 21002") || c.service("x2") != nil {
			t.Errorf("no port left: %v", err)
		}
		// Without the wish, without the sidecar.
		_ = add(`{"Name":"x1"}`)
		if c.service("x1") == nil || c.service("x1-sidecar-proxy") != nil {
			t.Error("a sidecar that nobody asks for any more stays")
		}
		_ = a.AddService(ctx, &ServiceDefinition{Name: "x3", ID: "y-sidecar-proxy"}, false)
		_ = add(`{"Name":"y"}`)
		if c.service("y-sidecar-proxy") == nil {
			t.Error("a service of the user was taken for a sidecar")
		}
	})
}

func TestSidecarIsKeptOverARestartAndReload(t *testing.T) {
	in(t, sidecarPorts, func(t *testing.T, a *Agent, c *catalog) {
		_ = a.AddService(t.Context(), jsonService(t, `{"Name":"api","Connect":{"SidecarService":{}}}`), false)
		file := &ServiceDefinition{Name: "file", Connect: json.RawMessage(`{"sidecar_service":{"proxy":{"upstreams":{"destination_name":"api"}}}}`)}
		for range 2 {
			if err := a.ReloadDefinitions([]*ServiceDefinition{file}, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			side := c.service("file-sidecar-proxy")
			if side == nil || side.Port != 21001 || !strings.Contains(string(side.Proxy), `"Upstreams":[{"DestinationName":"api"}]`) {
				t.Fatalf("the sidecar of a file: %v", side)
			}
		}
		b := reopened(t, copyDir(t, a.cfg.DataDir))
		if s := b.Services(); len(s) != 2 || s["api-sidecar-proxy"] == nil || b.services["api-sidecar-proxy"].def.SidecarOf != "api" {
			t.Errorf("after a restart: %v", s)
		}
		if err := a.ReloadDefinitions(nil, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if c.service("file-sidecar-proxy") != nil || c.service("api-sidecar-proxy") == nil {
			t.Error("the reload took the wrong sidecar")
		}
	})
}

func TestMeshBlocks(t *testing.T) {
	in(t, sidecarPorts, func(t *testing.T, a *Agent, c *catalog) {
		for body, want := range map[string]string{
			`{"Name":"p","Kind":"connect-proxy"}`: "Validation failed: 2 errors occurred:\n\t* Proxy.DestinationServiceName must be non-empty for Connect proxy services\n" +
				"\t* Port or SocketPath must be set for a Connect proxy\n\n",
			`{"Name":"p","Kind":"connect-proxy","Port":1}`:                                        "Validation failed: 1 error occurred:\n\t* Proxy.DestinationServiceName must be non-empty for Connect proxy services\n\n",
			`{"Name":"p","Connect":{"SidecarService":{"ID":"x"}}}`:                                `Invalid sidecar: its ID is always "p-sidecar-proxy", not "x"`,
			`{"Name":"p","Connect":{"SidecarService":{"Kind":"x"}}}`:                              `Invalid sidecar: its Kind is always "connect-proxy", not "x"`,
			`{"Name":"p","Connect":{"SidecarService":{"Connect":{"Native":true}}}}`:               "Invalid sidecar: it cannot have a Connect block of its own",
			`{"Name":"p","Connect":{"SidecarService":{"Bogus":1}}}`:                               `Invalid sidecar: json: unknown field "Bogus"`,
			`{"Name":"p","Connect":{"SidecarService":{"Proxy":{"DestinationServiceName":"db"}}}}`: `Invalid sidecar: Proxy.DestinationServiceName is always "p", not "db"`,
			`{"Name":"p","Connect":{"SidecarService":[1]}}`:                                       "Invalid sidecar: json: cannot unmarshal number into Go value of type ServiceDefinition",
		} {
			err := a.AddService(t.Context(), jsonService(t, body), false)
			if err == nil || err.Error() != want || store.KindOf(err) != store.KindBadRequest {
				t.Errorf("%s: got %v\nwant %s", body, err, want)
			}
		}
		// What is given is returned, to the byte where names are right already.
		const given = `{"Name":"k","Kind":"odd","Port":1,"Proxy":{"DestinationServiceName":"x","Config":{"a_b":1.50}},"Connect":{"Native":true},"Locality":{"Region":"r","Zone":"z"}}`
		if err := a.AddService(t.Context(), jsonService(t, given), false); err != nil {
			t.Fatal(err)
		}
		s, err := a.Service("k")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(s.Proxy) + string(s.Connect) + string(s.Locality); got != `{"DestinationServiceName":"x","Config":{"a_b":1.50}}{"Native":true}{"Region":"r","Zone":"z"}` {
			t.Errorf("got %s", got)
		}
		_ = a.AddService(t.Context(), jsonService(t, `{"Name":"p","Kind":"connect-proxy","Port":1,"Proxy":{"destination_service_name":"x","mesh_gateway":{"mode":"local"},"expose":{"paths":[{"local_path_port":1}]}}}`), false)
		if s, _ = a.Service("p"); string(s.Proxy) != `{"DestinationServiceName":"x","Expose":{"Paths":[{"LocalPathPort":1}]},"MeshGateway":{"Mode":"local"}}` {
			t.Errorf("got %s", s.Proxy)
		}
		if c.service("p").ConnectTarget() != "x" {
			t.Error("readers of the catalog do not find whom the proxy speaks for")
		}
	})
}
