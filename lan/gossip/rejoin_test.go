package gossip_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"landbridge/lan/gossip"
	"landbridge/lan/gossip/gossiptest"
)

func TestSnapshotRejoins(t *testing.T) {
	for _, sparse := range []bool{false, true} {
		t.Run(fmt.Sprintf("sparse=%t", sparse), func(t *testing.T) { testSnapshotRejoins(t, sparse) })
	}
}

func testSnapshotRejoins(t *testing.T, sparse bool) {
	dir := t.TempDir()
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		snap := func(c *gossip.Config) {
			c.SnapshotFile, c.Sparse = filepath.Join(dir, "serf", "local.snapshot"), sparse
		}
		a, b := agent(t, net, 1), agent(t, net, 2, snap)
		defer stop(t, a)
		join(t, b, 1)
		time.Sleep(time.Second)
		stop(t, b)
		b = agent(t, net, 2, snap)
		until(t, 10*time.Second, "n2 found the pool by itself", func() bool { return status(b, "n1") == gossip.Alive && status(a, "n2") == gossip.Alive })
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop(t, b)
		b = agent(t, net, 2, snap)
		time.Sleep(30 * time.Second)
		if n := len(b.Members()); n != 1 {
			t.Errorf("after a leave: %d members, want 1: it must not rejoin by itself", n)
		}
		stop(t, b)
	})
}

// What is on disk when an agent is killed is enough, also when the pool formed at once
// and nothing happened since, of which serf writes nothing.
func TestSnapshotOfKilledAgent(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		a := agent(t, net, 1)
		b := agent(t, net, 2, func(c *gossip.Config) { c.SnapshotFile = filepath.Join(dir, "local.snapshot") })
		defer stop(t, a)
		join(t, b, 1)
		time.Sleep(5 * time.Second)
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		stop(t, b)
		b = agent(t, net, 2, func(c *gossip.Config) { c.SnapshotFile = filepath.Join(killed, "local.snapshot") })
		defer stop(t, b)
		until(t, 10*time.Second, "n2 found the pool by itself", func() bool { return status(b, "n1") == gossip.Alive })
	})
}

// Both members restart while they cannot reach each other: they meet again soon
// after they can, though serf has given up by then.
func TestSnapshotRejoinsLater(t *testing.T) {
	dir := t.TempDir()
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(1)
		start := func(i int) *gossip.Pool {
			return agent(t, net, i, func(c *gossip.Config) { c.SnapshotFile = filepath.Join(dir, fmt.Sprint(i)) })
		}
		a, b := start(1), start(2)
		join(t, b, 1)
		time.Sleep(time.Second)
		stop(t, a)
		stop(t, b)
		net.Cut(addrOf(1), addrOf(2))
		a, b = start(1), start(2)
		defer stop(t, a)
		defer stop(t, b)
		time.Sleep(10 * time.Minute)
		if status(a, "n2") != gossip.None || status(b, "n1") != gossip.None {
			t.Fatal("they heard of each other over a link that is cut")
		}
		net.Heal(addrOf(1), addrOf(2))
		until(t, time.Minute, "they found each other", func() bool { return status(b, "n1") == gossip.Alive && status(a, "n2") == gossip.Alive })
	})
}
