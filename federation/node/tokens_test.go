package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"landbridge/store"
)

func TestAgentTokens(t *testing.T) {
	dir := t.TempDir()
	cfg := &Config{DataDir: dir, ACL: ACL{Enabled: true, TokenPersistence: true, Tokens: ACLTokens{Default: "file-default", Agent: "file-agent"}}}
	log := slog.New(slog.DiscardHandler)
	tokens, err := newAgentTokens(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	if tokens.user() != "file-default" || tokens.agent() != "file-agent" || tokens.dns() != "file-default" || tokens.recovery() != "" {
		t.Errorf("from the configuration: %+v", *tokens.now())
	}
	if err := tokens.set("bogus", "x"); store.KindOf(err) != store.KindNotFound || err.Error() != `Token "bogus" is unknown` {
		t.Errorf("an unknown kind: %v", err)
	}
	for kind, secret := range map[string]string{"acl_agent_token": "api-agent", "dns": "api-dns", "agent_master": "api-recovery", "config_file_service_registration": "api-file"} {
		if err := tokens.set(kind, secret); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, tokens *agentTokens) {
		t.Helper()
		now := tokens.now()
		if now.Agent != "api-agent" || now.DNS != "api-dns" || now.AgentRecovery != "api-recovery" || now.FileRegistration != "api-file" {
			t.Errorf("%s: %+v", when, *now)
		}
	}
	check("set", tokens)
	// A reload changes what the API has not set.
	tokens.reload(ACLTokens{Default: "next", Agent: "next"})
	check("reloaded", tokens)
	if tokens.user() != "next" {
		t.Errorf("reloaded: %q", tokens.user())
	}
	if fi, err := os.Stat(filepath.Join(dir, tokenFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", fi, err)
	}
	again, err := newAgentTokens(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	check("restarted", again)
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("files: %v", left)
	}
	// A broken file is named, its words are not.
	if err := os.WriteFile(filepath.Join(dir, tokenFile), []byte(`{"agent":"secret-word"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newAgentTokens(cfg, log); err == nil || strings.Contains(err.Error(), "secret-word") || !strings.Contains(err.Error(), tokenFile) {
		t.Errorf("a broken file: %v", err)
	}
	// Without persistence nothing is kept.
	cfg.ACL.TokenPersistence = false
	if tokens, err = newAgentTokens(cfg, log); err != nil || tokens.agent() != "file-agent" {
		t.Errorf("without persistence: %v", err)
	}
	if err := tokens.set("agent", ""); err != nil || tokens.agent() != "file-default" {
		t.Errorf("taken away: %v, %q", err, tokens.agent())
	}
}
