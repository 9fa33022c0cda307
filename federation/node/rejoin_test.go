package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAServerThatWasAwayForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		n := &Node{cfg: Config{Server: true, DataDir: dir, ServerRejoinAgeMax: 168 * time.Hour}, log: slog.New(slog.DiscardHandler)}
		n.stack.log = n.log
		if err := n.checkAge(); err != nil {
			t.Fatalf("a new server: %v", err)
		}
		n.stack.run("last seen", func(err error) { t.Error(err) }, n.keepSeen)
		time.Sleep(200 * time.Hour) // it runs, and so is not away
		if err := n.checkAge(); err != nil {
			t.Errorf("a server that ran an hour ago: %v", err)
		}
		if err := n.stack.stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(168 * time.Hour)
		if err := n.checkAge(); err != nil {
			t.Errorf("a server that was away for exactly the limit: %v", err)
		}
		time.Sleep(time.Second)
		const want = "refusing to rejoin cluster because this server has been offline for 168h0m1s, more than server_rejoin_age_max (168h0m0s)"
		if err := n.checkAge(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a server that was away for longer: %v, want %q", err, want)
		}
		client := &Node{cfg: n.cfg, log: n.log}
		client.cfg.Server = false
		if err := client.checkAge(); err != nil {
			t.Errorf("a client agent: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, serverMetadataFile), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := n.checkAge(); err != nil {
			t.Errorf("a damaged file: %v", err)
		}
	})
}
