package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// credentialKeys are the credentials of a service manager that are the value of one
// key each: the file's name -> the key's path.
var credentialKeys = [][2]string{
	{"encrypt", "encrypt"},
	{"token.initial_management", "acl.tokens.initial_management"},
	{"token.default", "acl.tokens.default"},
	{"token.agent", "acl.tokens.agent"},
	{"token.agent_recovery", "acl.tokens.agent_recovery"},
	{"token.replication", "acl.tokens.replication"},
	{"token.config_file_service_registration", "acl.tokens.config_file_service_registration"},
	{"token.dns", "acl.tokens.dns"},
}

// maxCredential bounds a secret of one line; systemd's own limit is 1 MB for all.
const maxCredential = 4096

// credentials reads the directory that a service manager put secrets into. Files
// that end in .hcl or .json are pieces of configuration; those named in
// credentialKeys hold one value, the blanks around which do not count; the rest are
// somebody else's.
func (l *Loader) credentials(add func(source string, raw map[string]any, err error)) {
	if l.Credentials == "" {
		return
	}
	list, _, err := files([]string{l.Credentials}, "")
	if err != nil {
		add("", nil, fmt.Errorf("credentials: %w", err))
		return
	}
	for _, path := range list {
		raw, err := readFile(path, "")
		add(path, raw, err)
	}
	for _, k := range credentialKeys {
		path := filepath.Join(l.Credentials, k[0])
		fi, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && fi.Size() > maxCredential {
			err = fmt.Errorf("larger than %d bytes", maxCredential)
		}
		var b []byte
		if err == nil {
			b, err = os.ReadFile(path)
		}
		value := strings.TrimSpace(string(b))
		if err == nil && value == "" {
			err = errors.New("is empty")
		}
		if err != nil {
			add("", nil, fmt.Errorf("credential %s: %w", k[0], err))
			continue
		}
		raw := map[string]any{}
		at, names := raw, strings.Split(k[1], ".")
		for _, name := range names[:len(names)-1] {
			inner := map[string]any{}
			at[name] = inner
			at = inner
		}
		at[names[len(names)-1]] = value
		add("credential "+k[0], raw, nil)
	}
}
