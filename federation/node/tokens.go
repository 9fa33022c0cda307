package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"landbridge/store"
)

// tokenFile is where tokens that were set through the API are kept with
// acl.enable_token_persistence.
const tokenFile = "acl-tokens.json"

// agentTokens are the secrets that this agent works with. The API replaces them;
// what it has set goes before what the configuration says, also after a reload.
type agentTokens struct {
	cur  atomic.Pointer[ACLTokens]
	path string // "": nothing is kept on disk

	mu      sync.Mutex
	fromAPI map[string]string // by the API, by kind
	file    ACLTokens         // from the configuration
}

// tokenKinds are the kinds that the API can set, and where they are. The older
// names are those of clients of long ago.
var tokenKinds = map[string]func(*ACLTokens) *string{
	"default":                          func(t *ACLTokens) *string { return &t.Default },
	"agent":                            func(t *ACLTokens) *string { return &t.Agent },
	"agent_recovery":                   func(t *ACLTokens) *string { return &t.AgentRecovery },
	"replication":                      func(t *ACLTokens) *string { return &t.Replication },
	"config_file_service_registration": func(t *ACLTokens) *string { return &t.FileRegistration },
	"dns":                              func(t *ACLTokens) *string { return &t.DNS },
}

var tokenAliases = map[string]string{
	"acl_token": "default", "acl_agent_token": "agent", "acl_agent_master_token": "agent_recovery", "agent_master": "agent_recovery",
	"acl_replication_token": "replication",
}

// newAgentTokens starts with the configuration's tokens and those kept on disk.
func newAgentTokens(cfg *Config, log *slog.Logger) (*agentTokens, error) {
	t := &agentTokens{fromAPI: map[string]string{}, file: cfg.ACL.Tokens}
	if cfg.ACL.Enabled && cfg.ACL.TokenPersistence && cfg.DataDir != "" {
		t.path = filepath.Join(cfg.DataDir, tokenFile)
		b, err := os.ReadFile(t.path)
		if err == nil {
			err = json.Unmarshal(b, &t.fromAPI)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s (acl.enable_token_persistence): %w", t.path, withoutText(err))
		}
		for _, kind := range slices.Sorted(maps.Keys(t.fromAPI)) {
			at := tokenKinds[kind]
			if at == nil {
				continue // of a newer version
			}
			if v := *at(&t.file); v != "" && v != t.fromAPI[kind] {
				log.Warn("a token of the configuration is replaced by the one that was set through the API", "token", "acl.tokens."+kind, "file", tokenFile)
			}
		}
	}
	t.join()
	return t, nil
}

// withoutText keeps what a decoder read out of its error: the file holds secrets.
func withoutText(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		return errors.New("it is not a JSON object of strings")
	}
	return err
}

// join makes what is in effect. The caller holds mu, or is alone.
func (t *agentTokens) join() {
	all := t.file
	for kind, secret := range t.fromAPI {
		if at := tokenKinds[kind]; at != nil {
			*at(&all) = secret
		}
	}
	t.cur.Store(&all)
}

// now returns the tokens in effect.
func (t *agentTokens) now() *ACLTokens { return t.cur.Load() }

// reload takes over the configuration's tokens.
func (t *agentTokens) reload(file ACLTokens) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file = file
	t.join()
}

// set replaces one token until the next start, or for good.
func (t *agentTokens) set(kind, secret string) error {
	if k, ok := tokenAliases[kind]; ok {
		kind = k
	}
	if tokenKinds[kind] == nil {
		return store.Errorf(store.KindNotFound, "Token %q is unknown", kind)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := maps.Clone(t.fromAPI)
	next[kind] = secret
	if t.path != "" {
		if err := writeSecret(t.path, next); err != nil {
			return fmt.Errorf("keeping the token (acl.enable_token_persistence): %w", err)
		}
	}
	t.fromAPI = next
	t.join()
	return nil
}

// writeSecret replaces a file, for its owner alone.
func writeSecret(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), tokenFile+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is there any more if it was renamed
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// The secrets for each purpose, "" standing for the anonymous token.

func (t *agentTokens) user() string     { return t.now().Default }
func (t *agentTokens) recovery() string { return t.now().AgentRecovery }

// agent is for what this agent does for itself.
func (t *agentTokens) agent() string {
	if now := t.now(); now.Agent != "" {
		return now.Agent
	}
	return t.user()
}

func (t *agentTokens) dns() string {
	if now := t.now(); now.DNS != "" {
		return now.DNS
	}
	return t.user()
}
