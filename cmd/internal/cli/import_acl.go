package cli

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
)

// aclThere lists records of access control at both ends; none if it is off at the
// source. where says of which list.
func (im *importer) aclThere(path string) (there, here []record, err error) {
	if err := im.get(im.from, path, &there); err != nil {
		var status *client.StatusError
		if errors.As(err, &status) && status.Code == http.StatusUnauthorized {
			return nil, nil, nil // access control is off there
		}
		return nil, nil, err
	}
	if len(there) == 0 {
		return nil, nil, nil
	}
	if err := im.get(im.to, path, &here); err != nil {
		var status *client.StatusError
		if errors.As(err, &status) && status.Code == http.StatusUnauthorized {
			im.part.Refused = len(there)
			im.part.note("access control is off here (acl.enabled)")
			return nil, nil, nil
		}
		return nil, nil, err
	}
	return there, here, nil
}

// builtIn is whether every cluster has the record.
func builtIn(r record) bool {
	return strings.HasPrefix(text(r, "ID"), "00000000-0000-0000-0000-") || strings.HasPrefix(text(r, "Name"), "builtin/")
}

func named(list []record, field, value string) record {
	for _, r := range list {
		if text(r, field) == value {
			return r
		}
	}
	return nil
}

// policies are found by their names: their ids are made where they are.
func (im *importer) policies() error {
	there, here, err := im.aclThere("/v1/acl/policies")
	for i, p := range there {
		if builtIn(p) {
			continue
		}
		im.progress(int64(i+1), int64(len(there)))
		name := text(p, "Name")
		var want, have record
		if err := im.get(im.from, client.Path("v1", "acl", "policy", text(p, "ID")), &want); err != nil {
			return err
		}
		fields := []string{"Name", "Description", "Rules", "Datacenters"}
		want = pick(want, fields...)
		id := text(named(here, "Name", name), "ID")
		if id != "" {
			if err := im.get(im.to, client.Path("v1", "acl", "policy", id), &have); err != nil {
				return err
			}
			have = pick(have, fields...)
		}
		if err := im.settle("policy "+name, want, have, func() error {
			return im.write(http.MethodPut, "/v1/acl/policy", nil, want, nil)
		}, func() error {
			want["ID"] = id
			return im.write(http.MethodPut, client.Path("v1", "acl", "policy", id), nil, want, nil)
		}); err != nil {
			return err
		}
	}
	return err
}

// linkNames replaces links by their names: ids differ between clusters. Those that
// every cluster has keep theirs.
func linkNames(r record, fields ...string) {
	for _, f := range fields {
		list, _ := r[f].([]any)
		for i := range list {
			if l, ok := list[i].(record); ok {
				list[i] = pick(l, "Name")
			}
		}
	}
	list, _ := r["TemplatedPolicies"].([]any)
	for _, t := range list {
		if t, ok := t.(record); ok {
			delete(t, "TemplateID")
		}
	}
}

// grantFields are what gives rights.
var grantFields = []string{"Policies", "Roles", "ServiceIdentities", "NodeIdentities", "TemplatedPolicies"}

func (im *importer) roles() error {
	there, here, err := im.aclThere("/v1/acl/roles")
	fields := append([]string{"Name", "Description"}, grantFields...)
	for i, r := range there {
		im.progress(int64(i+1), int64(len(there)))
		name := text(r, "Name")
		want := pick(r, fields...)
		linkNames(want, "Policies")
		var have record
		found := named(here, "Name", name)
		if found != nil {
			have = pick(found, fields...)
			linkNames(have, "Policies")
		}
		if err := im.settle("role "+name, want, have, func() error {
			return im.write(http.MethodPut, "/v1/acl/role", nil, want, nil)
		}, func() error {
			id := text(found, "ID")
			want["ID"] = id
			return im.write(http.MethodPut, client.Path("v1", "acl", "role", id), nil, want, nil)
		}); err != nil {
			return err
		}
	}
	return err
}

const anonymousAccessor = "00000000-0000-0000-0000-000000000002"

// tokens keep their ids and secrets. Those of logins end with the login, and no token
// can be made that ends within a minute.
func (im *importer) tokens() error {
	there, here, err := im.aclThere("/v1/acl/tokens")
	fields := append([]string{"AccessorID", "SecretID", "Description", "Local", "ExpirationTime"}, grantFields...)
	logins := 0
	for i, t := range there {
		im.progress(int64(i+1), int64(len(there)))
		accessor := text(t, "AccessorID")
		what := "token " + accessor
		if text(t, "AuthMethod") != "" {
			logins++
			continue
		}
		if ends, err := time.Parse(time.RFC3339, text(t, "ExpirationTime")); err == nil && time.Until(ends) < 2*time.Minute {
			continue
		}
		var want, have record
		if err := im.get(im.from, client.Path("v1", "acl", "token", accessor), &want); err != nil {
			return err
		}
		want = pick(want, fields...)
		linkNames(want, "Policies", "Roles")
		if s := text(want, "SecretID"); s == "" || s == "<hidden>" {
			im.part.Refused++
			im.part.note("%s: the source does not show its secret: the token for it needs acl:write", what)
			continue
		}
		if named(here, "AccessorID", accessor) != nil {
			if err := im.get(im.to, client.Path("v1", "acl", "token", accessor), &have); err != nil {
				return err
			}
			have = pick(have, fields...)
			linkNames(have, "Policies", "Roles")
		}
		update := func() error {
			return im.write(http.MethodPut, client.Path("v1", "acl", "token", accessor), nil, want, nil)
		}
		if accessor == anonymousAccessor && have != nil && len(pick(have, grantFields...)) == 0 {
			// Every cluster has it; as long as it gives no rights here, it is new.
			if len(pick(want, grantFields...)) == 0 {
				im.part.Same++
				continue
			}
			if err := im.settle(what, want, nil, update, nil); err != nil {
				return err
			}
			continue
		}
		if have != nil && (have["SecretID"] != want["SecretID"] || have["Local"] != want["Local"] || have["ExpirationTime"] != want["ExpirationTime"]) {
			update = nil // these never change
		}
		if err := im.settle(what, want, have, func() error {
			return im.write(http.MethodPut, "/v1/acl/token", nil, want, nil)
		}, update); err != nil {
			return err
		}
	}
	if logins > 0 {
		im.part.note("%d tokens of logins stay behind: who holds them logs in again", logins)
	}
	return err
}

// authMethods are found by their names. What they trust is copied as it is: keys and
// addresses that the destination has to reach, too.
func (im *importer) authMethods() error {
	there, here, err := im.aclThere("/v1/acl/auth-methods")
	for i, m := range there {
		im.progress(int64(i+1), int64(len(there)))
		name := text(m, "Name")
		path := client.Path("v1", "acl", "auth-method", name)
		want, err := im.authMethod(im.from, path)
		if err != nil {
			return err
		}
		var have record
		if named(here, "Name", name) != nil {
			if have, err = im.authMethod(im.to, path); err != nil {
				return err
			}
		}
		update := func() error { return im.write(http.MethodPut, path, nil, want, nil) }
		if have != nil && text(have, "Type") != text(want, "Type") {
			update = nil // it never changes
		}
		if err := im.settle("auth method "+name, want, have, func() error {
			return im.write(http.MethodPut, "/v1/acl/auth-method", nil, want, nil)
		}, update); err != nil {
			return err
		}
	}
	return err
}

// authMethod reads one, without what says the same as nothing.
func (im *importer) authMethod(at *client.Client, path string) (record, error) {
	var m record
	if err := im.get(at, path, &m); err != nil {
		return nil, err
	}
	m = pick(m, "Name", "Type", "DisplayName", "Description", "MaxTokenTTL", "TokenLocality", "Config")
	if d, err := time.ParseDuration(text(m, "MaxTokenTTL")); err == nil {
		if m["MaxTokenTTL"] = d.String(); d == 0 {
			delete(m, "MaxTokenTTL")
		}
	}
	if text(m, "TokenLocality") == "local" {
		delete(m, "TokenLocality")
	}
	return m, nil
}

// bindingRules have ids that are made where they are, and no names: each is looked for
// as a whole. One of an imported method that only the destination has gives rights that
// the source does not, and is reported.
func (im *importer) bindingRules() error {
	there, here, err := im.aclThere("/v1/acl/binding-rules")
	if err != nil || len(there) == 0 {
		return err
	}
	whole := func(r record) record {
		return pick(r, "Description", "AuthMethod", "Selector", "BindType", "BindName", "BindVars")
	}
	what := func(r record) string {
		s := "binding rule of " + text(r, "AuthMethod") + " (" + text(r, "BindType") + " " + text(r, "BindName")
		if sel := text(r, "Selector"); sel != "" {
			s += " if " + sel
		}
		return s + ")"
	}
	methods := map[string]bool{}
	for i, r := range there {
		im.progress(int64(i+1), int64(len(there)))
		want := whole(r)
		methods[text(want, "AuthMethod")] = true
		var have record
		if at := slices.IndexFunc(here, func(h record) bool { return reflect.DeepEqual(whole(h), want) }); at >= 0 {
			have = want
			here = slices.Delete(here, at, at+1)
		}
		if err := im.settle(what(want), want, have, func() error {
			return im.write(http.MethodPut, "/v1/acl/binding-rule", nil, want, nil)
		}, nil); err != nil {
			return err
		}
	}
	for _, r := range here {
		if methods[text(r, "AuthMethod")] {
			im.part.Differs++
			im.part.note("%s: is only here, where it gives rights", what(r))
		}
	}
	return nil
}
