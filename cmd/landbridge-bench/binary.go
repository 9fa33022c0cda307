package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// binary is one of the programs that are measured.
type binary struct {
	Label   string `json:"label"`
	Path    string `json:"path"`
	Version string `json:"version"` // first line of its `version` command
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`

	wanJoin []string // arguments that join a datacenter, before the address
}

// describe looks at a binary. An empty wanJoin means the default of its kind.
func describe(label, path, wanJoin string) (*binary, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s version: %w", path, err)
	}
	b := &binary{Label: label, Path: path, Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))}
	b.Version, _, _ = strings.Cut(string(out), "\n")
	if wanJoin == "" {
		wanJoin = "join -wan"
		if b.isLandbridge() {
			wanJoin = "wan join"
		}
	}
	b.wanJoin = strings.Fields(wanJoin)
	return b, nil
}

// isLandbridge says whether the binary calls itself landbridge, and so understands
// keys and commands that are landbridge's own.
func (b *binary) isLandbridge() bool {
	return strings.HasPrefix(strings.ToLower(b.Version), "landbridge")
}
