package cli

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
)

func loginCommand() *command {
	return &command{
		name:     "login",
		synopsis: "Exchange a bearer token for an ACL token",
		help: `
Logs in with an auth method, and writes the secret of the new token to a file that
only its owner can read. Other commands take it by -token-file.

    $ landbridge login -method=ci -bearer-token-file=ci.jwt -token-sink-file=lb.token
    $ landbridge kv get -token-file=lb.token config/app`,
		setup: func(fs *flag.FlagSet) run {
			method := fs.String("method", "", "The auth method. `NAME`")
			bearer := fs.String("bearer-token-file", "", "File with what the method trusts. `FILE`")
			sink := fs.String("token-sink-file", "", "File to write the new token's secret to. `FILE`")
			typ := fs.String("type", "", "Type of the auth method, where it needs to be known here; jwt and kubernetes do not. `TYPE`")
			meta := pairs{}
			fs.Var(&meta, "meta", "Text to keep with the token; may be repeated. `KEY=VALUE`")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if *typ == "aws-iam" || *typ == "aws" {
					return failf("Error logging in: -type=%s is not built yet", *typ)
				}
				for _, f := range []struct{ name, value string }{{"method", *method}, {"token-sink-file", *sink}, {"bearer-token-file", *bearer}} {
					if f.value == "" {
						return usagef("Missing required '-%s' flag", f.name)
					}
				}
				raw, err := os.ReadFile(*bearer)
				if err != nil {
					return failf("%w", err)
				}
				token := strings.TrimSpace(string(raw))
				if token == "" {
					return failf("No bearer token found in %q", *bearer)
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				body := struct {
					AuthMethod, BearerToken string
					Meta                    map[string]string `json:",omitempty"`
				}{*method, token, meta}
				var t aclToken
				if err := post(c, cl, "/v1/acl/login", body, &t); err != nil {
					return failf("Error logging in: %w", err)
				}
				if err := writeSecret(*sink, t.SecretID); err != nil {
					return failf("Error writing token to file sink: %w", err)
				}
				return nil
			}
		},
	}
}

// writeSecret replaces a file at once, readable for its owner alone.
func writeSecret(name, secret string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".token-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(secret)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is told
	}
	return err
}

func logoutCommand() *command {
	return &command{
		name:     "logout",
		synopsis: "Give back the token of a login",
		help: `
Deletes the token that the command uses, which a login made.

    $ landbridge logout -token-file=lb.token`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				if err := post(c, cl, "/v1/acl/logout", nil, nil); err != nil {
					return failf("Error destroying token: %w", err)
				}
				return nil
			}
		},
	}
}
