package gossip_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"landbridge/lan/gossip"
	"landbridge/lan/gossip/gossiptest"
)

func TestKeyring(t *testing.T) {
	dir := t.TempDir()
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
		file := filepath.Join(dir, "serf", "local.keyring")
		encrypted := func(c *gossip.Config) { c.Key = bytes.Clone(key) }
		a := agent(t, net, 1, encrypted, func(c *gossip.Config) { c.KeyringFile = file })
		b := agent(t, net, 2, encrypted)
		plain := agent(t, net, 3)
		wrong := agent(t, net, 4, func(c *gossip.Config) { c.Key = other })
		for _, p := range []*gossip.Pool{b, plain, wrong} {
			defer stop(t, p)
		}
		join(t, b, 1)
		until(t, time.Second, "n1 knows n2", func() bool { return status(a, "n2") == gossip.Alive })
		for name, p := range map[string]*gossip.Pool{"without a key": plain, "with another key": wrong} {
			if _, err := p.Join(t.Context(), []string{addrOf(1).String()}); err == nil {
				t.Errorf("joined %s", name)
			}
		}
		r, err := plain.KeyOp(t.Context(), gossip.ListKeys, "", 0)
		if err == nil || err.Error() != "1/1 nodes reported failure" || r.Messages["n3"] != "Keyring is empty (encryption not enabled)" {
			t.Errorf("keys of a plain pool = %+v, %v", r, err)
		}

		enc := base64.StdEncoding.EncodeToString
		if _, err := a.KeyOp(t.Context(), gossip.InstallKey, enc(other), 2); err != nil {
			t.Fatal(err)
		}
		if _, err := a.KeyOp(t.Context(), gossip.UseKey, enc(other), 0); err != nil {
			t.Fatal(err)
		}
		if r, err := a.KeyOp(t.Context(), gossip.RemoveKey, enc(other), 0); err == nil || r.Messages["n2"] != "Removing the primary key is not allowed" || len(r.PrimaryKeys) != 0 {
			t.Errorf("removing the primary key = %+v, %v", r, err)
		}
		if r, err := a.KeyOp(t.Context(), gossip.UseKey, enc(bytes.Repeat([]byte{3}, 16)), 0); err == nil || r.NumErr != 2 {
			t.Errorf("using a key that nobody has = %+v, %v", r, err)
		}
		for range 2 { // the second time it is not there any more
			if _, err := a.KeyOp(t.Context(), gossip.RemoveKey, enc(key), 0); err != nil {
				t.Fatal(err)
			}
		}
		r, err = b.KeyOp(t.Context(), gossip.ListKeys, "", 0)
		if err != nil || r.NumNodes != 2 || r.Keys[enc(other)] != 2 || len(r.Keys) != 1 || r.PrimaryKeys[enc(other)] != 2 {
			t.Errorf("keys = %+v, %v; want only the new one, on both", r, err)
		}
		if !bytes.Equal(a.PrimaryKey(), other) || !bytes.Equal(b.PrimaryKey(), other) {
			t.Error("primary key is not the new one")
		}
		if _, err := a.KeyOp(t.Context(), gossip.InstallKey, "c2hvcnQ=", 0); err == nil || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("install of a short key = %v, want an error without the key", err)
		}

		if _, err := a.KeyOp(t.Context(), gossip.InstallKey, "!", 0); err == nil || err.Error() != "illegal base64 data at input byte 0" {
			t.Errorf("install of a bad text = %v", err)
		}

		// The file wins over the configuration after a restart.
		stop(t, a)
		a = agent(t, net, 1, encrypted, func(c *gossip.Config) { c.KeyringFile = file })
		defer stop(t, a)
		if !bytes.Equal(a.PrimaryKey(), other) {
			t.Error("the keyring file was ignored")
		}
		join(t, a, 2)
	})
	for name, content := range map[string]string{"text": "not json", "empty": "[]", "short": `["c2hvcnQ="]`, "base64": `["%%"]`} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := newAgent(gossiptest.NewNetwork(1), 1, func(c *gossip.Config) { c.KeyringFile = file }); err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%s: %v, want an error that names the file and no key", name, err)
		}
	}
}
