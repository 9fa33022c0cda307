package federationtest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// What others do to the catalog's picture of an agent is undone at its next full
// sync: what vanished is back, what it does not have is removed, and tags that may
// be overridden are taken over.
func TestCatalogDriftHeals(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		for _, h := range []*Host{east.Client(0), east.Server(0)} {
			put := func(path, body string) {
				t.Helper()
				r, err := h.Call(context.Background(), "PUT", path, body)
				f.Must(err)
				if r.Code != 200 {
					t.Fatalf("PUT %s: %d %s", path, r.Code, r.Body)
				}
			}
			catalog := func(method, more string) { put("/v1/catalog/"+method, fmt.Sprintf(`{"Node":%q,%s}`, h.Name, more)) }
			f.Await(10*time.Second, h.Name+" is in the catalog", func() error { return has(h, "/v1/catalog/node-services/"+h.Name, `"Node":"`+h.Name) })
			put("/v1/agent/service/register", `{"Name":"own","Port":80,"Check":{"TTL":"1h","Status":"passing"}}`)
			put("/v1/agent/service/register", `{"Name":"mixed","Tags":["agent"],"EnableTagOverride":true}`)
			catalog("deregister", `"ServiceID":"own"`)
			catalog("register", `"SkipNodeUpdate":true,"Service":{"Service":"strange","Port":1},"Check":{"CheckID":"odd","Status":"passing"}`)
			catalog("register", `"SkipNodeUpdate":true,"Service":{"Service":"mixed","ID":"mixed","Tags":["catalog"],"EnableTagOverride":true}`)
			f.Await(130*time.Second, "the catalog agrees with "+h.Name, func() error {
				if err := has(h, "/v1/catalog/node-services/"+h.Name, `"ID":"own"`, `"Tags":["catalog"]`, `!"ID":"strange"`); err != nil {
					return err
				}
				if err := has(h, "/v1/health/node/"+h.Name, `"CheckID":"service:own"`, `!"CheckID":"odd"`); err != nil {
					return err
				}
				return has(h, "/v1/agent/service/mixed", `"Tags":["catalog"]`)
			})
		}
	}, DC("east", 1).Clients(1))
}

// has reads through a host and expects texts in the answer, or with a "!" their
// absence.
func has(h *Host, path string, texts ...string) error {
	r, err := h.Call(context.Background(), "GET", path, "")
	if err != nil {
		return err
	}
	for _, text := range texts {
		want, not := strings.CutPrefix(text, "!")
		if strings.Contains(r.Body, want) == not {
			return fmt.Errorf("%s of %s: %s; %s", path, h.Name, r.Body, text)
		}
	}
	return nil
}
