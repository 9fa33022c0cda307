package cli

import (
	"bytes"
	"encoding/base64"
	"flag"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"landbridge/cmd/internal/client"
)

func kvPut() *command {
	return &command{
		name:     "kv put",
		args:     "KEY [DATA]",
		synopsis: "Write a key",
		help: `
Writes DATA to a key; without DATA the value is empty. DATA may be "-" for
standard input, or "@FILE" for a file's content; "\@" stands for a real "@".

    $ landbridge kv put config/greeting hello
    $ landbridge kv put config/app @app.json
    $ date | landbridge kv put config/time -

Only if nobody has written since index 42 (see "kv get -detailed"), or only if
the key does not exist yet:

    $ landbridge kv put -cas -modify-index=42 config/greeting hi
    $ landbridge kv put -cas config/once yes`,
		dashArgs: true,
		setup: func(fs *flag.FlagSet) run {
			acquire := fs.Bool("acquire", false, "Lock the key for -session, too.")
			release := fs.Bool("release", false, "Give up the lock that -session has.")
			session := fs.String("session", "", "Session for -acquire and -release. `ID`")
			b64 := fs.Bool("base64", false, "DATA is in base64: decode it.")
			cas := fs.Bool("cas", false, "Write only if the key has not changed since -modify-index.")
			index := fs.Uint64("modify-index", 0, "Index for -cas; 0 is a key that does not exist. `N`")
			flags := fs.Uint64("flags", 0, "A number to keep with the value. `N`")
			api := addAPI(fs)
			return func(c *call) error {
				if len(c.args) == 0 {
					return failf("Error! Missing KEY argument")
				}
				if err := c.atMost(2); err != nil {
					return err
				}
				key := strings.TrimPrefix(c.args[0], "/")
				if key == "" {
					return failf("Error! Missing KEY argument")
				}
				if *acquire && *release {
					return failf("Error! Cannot specify both -acquire and -release")
				}
				if (*acquire || *release) && *session == "" {
					return failf("Error! Missing -session (required with -acquire and -release)")
				}
				if *session != "" && !*acquire && !*release {
					return failf("Error! -session needs -acquire or -release")
				}
				if *index != 0 && !*cas {
					return failf("Error! -modify-index needs -cas")
				}
				data := ""
				if len(c.args) == 2 {
					var err error
					if data, err = c.dataArg(c.args[1]); err != nil {
						return failf("Error! %w", err)
					}
				}
				value := []byte(data)
				if *b64 {
					var err error
					if value, err = base64.StdEncoding.DecodeString(strings.TrimSpace(data)); err != nil {
						return failf("Error! Cannot base 64 decode data: %w", err)
					}
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				q := url.Values{}
				if *flags != 0 {
					q.Set("flags", strconv.FormatUint(*flags, 10))
				}
				done, refused := "Success! Data written to: "+key, ""
				switch {
				case *cas:
					q.Set("cas", strconv.FormatUint(*index, 10))
					refused = "Error! Did not write to " + key + ": CAS failed"
				case *acquire:
					q.Set("acquire", *session)
					done, refused = "Success! Lock acquired on: "+key, "Error! Did not acquire lock"
				case *release:
					q.Set("release", *session)
					done, refused = "Success! Lock released on: "+key, "Error! Did not release lock"
				}
				ok, err := writeKV(c, cl, http.MethodPut, key, q, value)
				if err != nil {
					return failf("Error! Failed writing data: %w", err)
				}
				if !ok && refused != "" {
					return failf("%s", refused)
				}
				if !ok {
					return failf("Error! Did not write to %s", key)
				}
				c.println(done)
				return nil
			}
		},
	}
}

// writeKV sends a write and returns whether it was carried out.
func writeKV(c *call, cl *client.Client, method, key string, q url.Values, value []byte) (bool, error) {
	var body io.Reader
	if method == http.MethodPut {
		body = bytes.NewReader(value)
	}
	resp, err := cl.Do(c.ctx, method, client.KeyPath(key), q, body)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	return strings.Contains(string(answer), "true"), err
}

// dataArg resolves an argument that may stand for standard input or a file.
func (c *call) dataArg(arg string) (string, error) {
	switch {
	case arg == "-":
		b, err := io.ReadAll(c.Stdin)
		return string(b), err
	case strings.HasPrefix(arg, "@"):
		b, err := os.ReadFile(arg[1:])
		return string(b), err
	case strings.HasPrefix(arg, `\@`):
		return arg[1:], nil
	}
	return arg, nil
}
