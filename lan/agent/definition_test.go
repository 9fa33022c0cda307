package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"landbridge/store"
)

func TestRegisterBodies(t *testing.T) {
	a, err := New(testConfig(newCatalog()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, body string
		kind       store.Kind
		text       string // with a trailing *: its beginning
	}{
		{"empty body", ``, store.KindBadRequest, "Request decode failed: EOF"},
		{"not JSON", `{"Name":`, store.KindBadRequest, "Request decode failed: *"},
		{"an array", `[]`, store.KindBadRequest, "Request decode failed: json: cannot unmarshal array into Go value of type ServiceDefinition"},
		{"no name", `{"Port":80}`, store.KindBadRequest, "Missing service name"},
		{"null", `null`, store.KindBadRequest, "Missing service name"},
		{"unknown member", `{"Name":"web","Bogus":1}`, store.KindBadRequest, `Request decode failed: json: unknown field "Bogus"`},
		{"namespace", `{"Name":"web","Namespace":"x"}`, store.KindBadRequest, `Request decode failed: json: unknown field "Namespace"`},
		{"port as text", `{"name":"lower","port":"81"}`, store.KindBadRequest, "Request decode failed: json: cannot unmarshal string*"},
		{"port as float", `{"name":"lower","port":80.0}`, store.KindBadRequest, "Request decode failed: json: cannot unmarshal number 80.0*"},
		{"checks no list", `{"Name":"w","Checks":{"TTL":"1s"}}`, store.KindBadRequest, "Request decode failed: json: cannot unmarshal object*"},
		{"bad duration", `{"Name":"w","Check":{"TTL":"soon"}}`, store.KindBadRequest, `Request decode failed: time: invalid duration "soon"`},
		{"negative timeout", `{"Name":"w2","Check":{"HTTP":"http://x","Interval":"10s","Timeout":"-1s"}}`, store.KindBadRequest, "Invalid check: Timeout must not be negative, is -1s"},
		{"negative threshold", `{"Name":"w2","Check":{"HTTP":"http://x","Interval":"10s","SuccessBeforePassing":-2}}`, store.KindBadRequest, "Invalid check: SuccessBeforePassing must not be negative, is -2"},
		{"no kind", `{"Name":"w2","Check":{"Interval":"10s"}}`, store.KindBadRequest, "Invalid check: TTL must be > 0 for TTL checks"},
		{"no interval", `{"Name":"w2","Check":{"HTTP":"http://x"}}`, store.KindBadRequest, "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"},
		{"ttl and interval", `{"Name":"w2","Check":{"HTTP":"http://x","Interval":"1s","TTL":"1s"}}`, store.KindBadRequest, "Invalid check: Interval and TTL cannot both be specified"},
		{"bad status", `{"Name":"w2","Check":{"TTL":"1s","Status":"odd"}}`, store.KindBadRequest, "Bad check status"},
		{"script", `{"Name":"w2","Check":{"Args":["true"],"Interval":"1s"}}`, store.KindInvalid, "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
		{"docker", `{"Name":"w2","Check":{"DockerContainerID":"c","Args":["true"],"Interval":"1s"}}`, store.KindInvalid, "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
		{"grpc without interval", `{"Name":"w2","Check":{"GRPC":"x:1"}}`, store.KindBadRequest, "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"},
		{"alias with interval", `{"Name":"w2","Check":{"AliasService":"x","Interval":"1s"}}`, store.KindBadRequest, "Invalid check: Interval cannot be set for Alias checks"},
		{"any address", `{"Name":"w","Address":"0.0.0.0"}`, store.KindBadRequest, "Invalid service address"},
		{"meta", `{"Name":"w","Meta":{"":"x"}}`, store.KindBadRequest, "Invalid Service Meta: Couldn't load metadata pair ('', 'x'): Key cannot be blank"},
		{"weights", `{"Name":"w","Weights":{"Passing":0}}`, store.KindBadRequest, "Invalid Weights: Passing must be greater than 0"},
		{"large weight", `{"Name":"w","Weights":{"Passing":70000}}`, store.KindBadRequest, "Invalid Weights: DNS Weight must be between 0 and 65535"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecodeService([]byte(c.body))
			if err == nil {
				err = a.AddService(t.Context(), d, false)
			}
			checkError(t, err, c.kind, c.text)
			if len(a.Services()) != 0 {
				t.Errorf("something was registered: %v", a.Services())
			}
		})
	}
}

func checkError(t *testing.T, err error, kind store.Kind, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", text)
	}
	begins, open := strings.CutSuffix(text, "*")
	if store.KindOf(err) != kind || err.Error() != text && !(open && strings.HasPrefix(err.Error(), begins)) {
		t.Errorf("got kind %d %q, want kind %d %q", store.KindOf(err), err, kind, text)
	}
}

func TestCheckBodies(t *testing.T) {
	a, err := New(testConfig(newCatalog()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		body string
		kind store.Kind
		text string
	}{
		{`{"Name":"c1"}`, store.KindBadRequest, "Invalid check: TTL must be > 0 for TTL checks"},
		{`{"TTL":"1s"}`, store.KindBadRequest, "Missing check name"},
		{`{"Name":"c","CheckID":"c","TTL":"1s"}`, store.KindBadRequest, `Request decode failed: json: unknown field "CheckID"`},
		{`{"Name":"c","TTL":"1s","ServiceID":"nope"}`, store.KindNotFound, `ServiceID "nope" does not exist`},
		{`{"Name":"scr","Args":["/bin/true"],"Interval":"10s"}`, store.KindInvalid, "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
	} {
		d, err := DecodeCheck([]byte(c.body))
		if err == nil {
			err = a.AddCheck(t.Context(), d)
		}
		checkError(t, err, c.kind, c.text)
	}
	for _, c := range []struct {
		err  error
		kind store.Kind
		text string
	}{
		{a.UpdateTTL("none", store.Passing, ""), store.KindNotFound, `Unknown check ID "none". Ensure that the check ID is passed, not the check name.`},
		{a.UpdateTTL("none", "odd", ""), store.KindBadRequest, "Invalid check status: 'odd'"},
		{a.UpdateTTL("none", "", ""), store.KindBadRequest, "Invalid check status: ''"},
		{a.RemoveCheck(t.Context(), "nope"), store.KindNotFound, `Unknown check ID "nope". Ensure that the check ID is passed, not the check name.`},
		{a.RemoveService(t.Context(), ""), store.KindNotFound, `Unknown service ID "". Ensure that the service ID is passed, not the service name.`},
		{a.EnableServiceMaintenance(t.Context(), "", "x"), store.KindBadRequest, "Missing service ID"},
		{a.DisableServiceMaintenance(t.Context(), "nope"), store.KindNotFound, `Unknown service ID "nope". Ensure that the service ID is passed, not the service name.`},
	} {
		checkError(t, c.err, c.kind, c.text)
	}
}

func TestDecodeSpellings(t *testing.T) {
	want := &ServiceDefinition{
		ID: "i", Name: "n", Tags: []string{"a", "b"}, Port: 80, EnableTagOverride: true,
		Weights: &store.Weights{Passing: 3}, Meta: map[string]string{"k": "v"},
		TaggedAddresses: map[string]store.ServiceAddress{"lan": {Address: "10.0.0.1", Port: 9}},
		Checks: []*CheckDefinition{
			{ID: "c", HTTP: "http://x", Interval: Duration(10 * time.Second), Header: map[string][]string{"X": {"1", "2"}}, TLSSkipVerify: true},
			{TTL: Duration(time.Minute), DeregisterCriticalServiceAfter: Duration(90 * time.Minute)},
		},
	}
	for name, c := range map[string]struct {
		decode func([]byte) (*ServiceDefinition, error)
		body   string
	}{
		"camel": {DecodeService, `{"ID":"i","Name":"n","Tags":["a","b"],"Port":80,"EnableTagOverride":true,"Weights":{"Passing":3},"Meta":{"k":"v"},
			"TaggedAddresses":{"lan":{"Address":"10.0.0.1","Port":9}},"Token":null,"Proxy":null,"Kind":"",
			"Check":{"CheckID":"c","HTTP":"http://x","Interval":10000000000,"Header":{"X":["1","2"]},"TLSSkipVerify":true},
			"Checks":[{"TTL":"60s","DeregisterCriticalServiceAfter":"90m"}]} trailing`},
		"snake": {DecodeService, `{"id":"i","name":"n","tags":["a","b"],"port":80,"enable_tag_override":true,"weights":{"passing":3},"meta":{"k":"v"},
			"tagged_addresses":{"lan":{"address":"10.0.0.1","port":9}},
			"check":{"check_id":"c","http":"http://x","interval":"10s","header":{"X":["1","2"]},"tls_skip_verify":true},
			"checks":[{"ttl":"60s","deregister_critical_service_after":"90m"}]}`},
		"file, blocks as lists": {DecodeServiceFile, `{"id":"i","name":"n","tags":["a","b"],"port":"80","enable_tag_override":"true","weights":[{"passing":3}],"meta":[{"k":"v"}],
			"tagged_addresses":[{"lan":[{"address":"10.0.0.1","port":9}]}],
			"check":[{"id":"c","http":"http://x","interval":"10s","header":[{"X":["1","2"]}],"tls_skip_verify":true}],
			"checks":{"ttl":"60s","deregister_critical_service_after":"90m"}}`},
	} {
		got, err := c.decode([]byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want -, got +\n%s", name, diff)
		}
	}
	if _, err := DecodeServiceFile([]byte(`{"name":"n","prot":80}`)); err == nil || err.Error() != `json: unknown field "prot"` {
		t.Errorf("unknown key in a file: %v", err)
	}
}

func TestServiceShape(t *testing.T) {
	a, err := New(testConfig(newCatalog()))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.ReloadDefinitions([]*ServiceDefinition{{Name: "web", Port: 80, Tags: []string{"x"}}, {Name: "addr", Port: 1, Address: "10.0.0.5"}}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(a.Services()["web"])
	want := `{"ID":"web","Service":"web","Tags":["x"],"Meta":{},"Port":80,"Address":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Datacenter":"dc1"}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s %v\nwant %s", got, err, want)
	}
	s, err := a.Service("web")
	if err != nil || len(s.ContentHash) != 16 {
		t.Errorf("hash %q %v", s.ContentHash, err)
	}
	got, _ = json.Marshal(s)
	want = strings.Replace(want, `"Datacenter"`, `"ContentHash":"`+s.ContentHash+`","Datacenter"`, 1)
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want = `{"lan_ipv4":{"Address":"10.0.0.5","Port":1},"wan_ipv4":{"Address":"10.0.0.5","Port":1}}`
	if got, _ := json.Marshal(a.Services()["addr"].TaggedAddresses); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := a.Service("none"); err == nil || err.Error() != "unknown service ID: none" {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeService(f *testing.F) {
	for _, s := range []string{`{"Name":"web","Check":{"TTL":"1s"},"Checks":[null,{}]}`, `{"Weights":null,"Meta":{"":null}}`, `[{"name":["x"]}]`, `{"check":[[{}]]}`, `{"Check":{"Interval":1e300}}`} {
		f.Add([]byte(s))
	}
	a, err := New(testConfig(newCatalog()))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, decode := range []func([]byte) (*ServiceDefinition, error){DecodeService, DecodeServiceFile} {
			d, err := decode(body)
			if err != nil {
				continue
			}
			n, err := a.normalizeService(d, FromAPI)
			if err != nil {
				continue
			}
			// What is accepted can be saved, read again, and shown.
			b, err := json.Marshal(savedService{Service: n})
			if err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			var back savedService
			if err := json.Unmarshal(b, &back); err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			if v := a.view(a.record(n)).WithHash(); !json.Valid([]byte(`"`+v.ContentHash+`"`)) || v.ID == "" {
				t.Fatalf("%q: %+v", body, v)
			}
		}
		_, _ = DecodeCheck(body)
		_, _ = DecodeCheckFile(body)
	})
}
