package cli

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"landbridge/cmd/internal/client"
)

// plain takes out of r, and of what is in it, the fields that each cluster sets for
// itself, and those that say nothing.
func plain(v any) any {
	switch v := v.(type) {
	case record:
		out := record{}
		for k, x := range v {
			switch k {
			case "CreateIndex", "ModifyIndex", "RaftIndex", "Datacenter", "Partition", "Namespace", "PeerName":
				continue
			}
			switch x := plain(x).(type) {
			case nil:
			case string:
				if x != "" {
					out[k] = x
				}
			case bool:
				if x {
					out[k] = x
				}
			case float64:
				if x != 0 {
					out[k] = x
				}
			case []any:
				if len(x) > 0 {
					out[k] = x
				}
			case record:
				if len(x) > 0 {
					out[k] = x
				}
			default:
				out[k] = x
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	}
	return v
}

// services copies the nodes that no agent is on, with their services and checks. A
// node counts as one thing.
func (im *importer) services() error {
	var nodes, alive []record
	if err := im.get(im.from, "/v1/catalog/nodes", &nodes); err != nil {
		return err
	}
	agents := map[string]bool{}
	if err := im.get(im.from, "/v1/health/state/any?filter="+url.QueryEscape(`CheckID == "serfHealth"`), &alive); err != nil {
		return err
	}
	for _, c := range alive {
		agents[text(c, "Node")] = true
	}
	for i, n := range nodes {
		im.progress(int64(i+1), int64(len(nodes)))
		name := text(n, "Node")
		if agents[name] {
			continue
		}
		want, err := im.externalNode(im.from, name)
		if err != nil {
			return err
		}
		have, err := im.externalNode(im.to, name)
		if err != nil {
			return err
		}
		if checks, _ := have["Checks"].(record); checks["serfHealth"] != nil {
			im.part.Differs++
			im.part.note("node %s: is an agent here", name)
			continue
		}
		write := func() error { return im.register(want) }
		if err := im.settle("node "+name, want, have, write, write); err != nil {
			return err
		}
	}
	return nil
}

// externalNode is a node with its services and checks, each by its id; nil if there is
// none.
func (im *importer) externalNode(cl *client.Client, name string) (record, error) {
	var services struct {
		Node     record
		Services []record
	}
	if err := im.get(cl, client.Path("v1", "catalog", "node-services", name), &services); err != nil {
		return nil, err
	}
	if services.Node == nil {
		return nil, nil
	}
	var checks []record
	if err := im.get(cl, client.Path("v1", "health", "node", name), &checks); err != nil {
		return nil, err
	}
	out := record{"Node": plain(services.Node)}
	byID := func(field, id string, list []record) {
		all := record{}
		for _, r := range list {
			p := plain(r).(record)
			// The catalog fills these in, from the node and the service.
			delete(p, "ServiceName")
			delete(p, "ServiceTags")
			all[text(r, id)] = p
		}
		if len(all) > 0 {
			out[field] = all
		}
	}
	byID("Services", "ID", services.Services)
	byID("Checks", "CheckID", checks)
	return out, nil
}

// register writes a node, then its services, then its checks: each may name what is
// before it.
func (im *importer) register(n record) error {
	node := n["Node"].(record)
	base := func() record {
		r := pick(node, "ID", "Node", "Address", "TaggedAddresses")
		if m, ok := node["Meta"]; ok {
			r["NodeMeta"] = m
		}
		return r
	}
	if err := im.write(http.MethodPut, "/v1/catalog/register", nil, base(), nil); err != nil {
		return err
	}
	for _, part := range [][2]string{{"Services", "Service"}, {"Checks", "Check"}} {
		all, _ := n[part[0]].(record)
		for _, one := range all {
			r := base()
			r["SkipNodeUpdate"] = true
			r[part[1]] = one
			if err := im.write(http.MethodPut, "/v1/catalog/register", nil, r, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// queries are found by their names; one without belongs to a session, and stays.
func (im *importer) queries() error {
	var there, here []record
	if err := im.get(im.from, "/v1/query", &there); err != nil {
		return err
	}
	if err := im.get(im.to, "/v1/query", &here); err != nil {
		return err
	}
	for i, q := range there {
		im.progress(int64(i+1), int64(len(there)))
		name := text(q, "Name")
		switch {
		case text(q, "Session") != "" || name == "" && q["Template"] == nil:
			im.part.Refused++
			im.part.note("query %s: belongs to a session", text(q, "ID"))
			continue
		case text(q, "Token") == "<hidden>":
			im.part.Refused++
			im.part.note("query %s: the source does not show its token", name)
			continue
		}
		form := func(r record) record {
			p := plain(r).(record)
			delete(p, "ID")
			return p
		}
		want := form(q)
		var have record
		found := -1
		for j, h := range here {
			if strings.EqualFold(text(h, "Name"), name) {
				found = j
				have = form(h)
			}
		}
		if err := im.settle("query "+name, want, have, func() error {
			return im.write(http.MethodPost, "/v1/query", nil, want, nil)
		}, func() error {
			return im.write(http.MethodPut, client.Path("v1", "query", text(here[found], "ID")), nil, want, nil)
		}); err != nil {
			return err
		}
	}
	return nil
}

// configKinds are the kinds of configuration entries of the interface.
var configKinds = []string{"proxy-defaults", "service-defaults", "service-resolver", "service-splitter", "service-router", "service-intentions",
	"ingress-gateway", "terminating-gateway", "mesh", "exported-services", "jwt-provider", "sameness-group", "control-plane-request-limit",
	"api-gateway", "bound-api-gateway", "inline-certificate", "file-system-certificate", "http-route", "tcp-route"}

// configEntries copies what the destination keeps; what it refuses is counted, with
// its reason once for each kind.
func (im *importer) configEntries() error {
	for _, kind := range configKinds {
		var there []record
		if err := im.get(im.from, client.Path("v1", "config", kind), &there); err != nil {
			if !strings.Contains(err.Error(), "invalid config entry kind") {
				return err
			}
			continue // the source is of before this kind
		}
		refused, why := 0, ""
		for _, e := range there {
			name := text(e, "Name")
			want := plain(e).(record)
			var have record
			if err := im.get(im.to, client.Path("v1", "config", kind, name), &have); err != nil {
				return err
			}
			var index string
			if have != nil {
				at, _ := have["ModifyIndex"].(float64)
				index = strconv.FormatFloat(at, 'f', -1, 64)
				have = plain(have).(record)
			}
			notes, before := len(im.part.Notes), im.part.Refused
			write := func() error {
				q := url.Values{}
				if index != "" {
					q.Set("cas", index)
				}
				var ok bool
				if err := im.write(http.MethodPut, "/v1/config", q, want, &ok); err != nil {
					return err
				}
				if !ok {
					return &client.StatusError{Code: http.StatusConflict, Body: "somebody else wrote it meanwhile"}
				}
				return nil
			}
			if err := im.settle(kind+" "+name, want, have, write, write); err != nil {
				return err
			}
			if im.part.Refused > before {
				refused, why = refused+1, im.part.Notes[len(im.part.Notes)-1]
				im.part.Notes = im.part.Notes[:notes]
			}
		}
		if refused > 0 {
			im.part.note("%d of kind %s are refused, such as %s", refused, kind, why)
		}
	}
	return nil
}
