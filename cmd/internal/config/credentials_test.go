package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCredentials(t *testing.T) {
	const key, other = "cg8StVXbQJ0gPvMd9o7yrg==", "AAECAwQFBgcICQoLDA0ODw=="
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string // of encrypt
		err   string // part of the error
	}{
		{"none", nil, key, ""},
		{"one value wins over files, blanks around it do not count", map[string]string{"encrypt": " " + other + "\n"}, other, ""},
		{"a piece of configuration", map[string]string{"secrets.hcl": `encrypt = "` + other + `"`}, other, ""},
		{"what is somebody else's", map[string]string{"tls.key": "x", "token": "y"}, key, ""},
		{"nothing in it", map[string]string{"encrypt": "\n"}, "", "credential encrypt: is empty"},
		{"too much in it", map[string]string{"token.agent": strings.Repeat("x", maxCredential+1)}, "", "credential token.agent: larger than 4096 bytes"},
		{"a broken piece", map[string]string{"secrets.hcl": "encrypt = {{"}, "", "secrets.hcl"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l := &Loader{Credentials: dir, HCL: []string{`bind_addr = "127.0.0.1" data_dir = "x" encrypt = "` + key + `"`}}
			cfg, _, err := l.Load()
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Encrypt != tc.want {
				t.Errorf("encrypt = %q, want %q", cfg.Encrypt, tc.want)
			}
		})
	}
	l := &Loader{Credentials: filepath.Join(t.TempDir(), "gone"), HCL: []string{`bind_addr = "127.0.0.1" data_dir = "x"`}}
	if _, _, err := l.Load(); err == nil || !strings.Contains(err.Error(), "credentials:") {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// TestCredentialKeys holds the list against the table of keys.
func TestCredentialKeys(t *testing.T) {
	for _, k := range credentialKeys {
		n := keys()
		for name := range strings.SplitSeq(k[1], ".") {
			if n = n.children[name]; n == nil {
				t.Errorf("credential %s is for %s, which is no key", k[0], k[1])
				break
			}
		}
	}
}
