// Command demo starts two datacenters of real landbridge processes on loopback,
// federates them, and shows one answering for the other. `make demo` runs it.
//
// Each datacenter has three servers and a client agent, with their data on disk
// in a temporary folder that goes when the demo ends. All share a fresh gossip
// key, so what it shows is the authenticated path.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin/landbridge", "the landbridge binary")
	once := flag.Bool("once", false, "end after the show instead of waiting for Ctrl-C")
	keep := flag.Bool("keep", false, "keep data and logs")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *once, *keep); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, once, keep bool) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "landbridge-demo-")
	if err != nil {
		return err
	}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	d := &demo{bin: bin, dir: dir, key: base64.StdEncoding.EncodeToString(key[:]), began: time.Now(), color: isTerminal()}
	defer func() {
		d.stop()
		if keep {
			fmt.Println("kept", dir)
		} else {
			os.RemoveAll(dir)
		}
	}()
	if err := d.show(ctx); err != nil {
		return err
	}
	if once {
		return nil
	}
	fmt.Println("\nCtrl-C ends it.")
	select {
	case <-ctx.Done():
		fmt.Println("\nstopping")
		return nil
	case name := <-d.died:
		return fmt.Errorf("%s ended by itself; its log:\n%s", name, d.logTail(name))
	}
}

// show starts everything and walks through it.
func (d *demo) show(ctx context.Context) error {
	d.title("Two datacenters: three servers and a client agent each")
	for i, dc := range []string{"dc1", "dc2"} {
		for n := 1; n <= 4; n++ {
			if err := d.start(agent{dc: dc, name: fmt.Sprintf("%s-%s", dc, []string{"s1", "s2", "s3", "c1"}[n-1]), ip: fmt.Sprintf("127.0.%d.%d", i+1, n), server: n < 4}); err != nil {
				return err
			}
		}
	}
	for _, ip := range []string{"127.0.1.4", "127.0.2.4"} {
		if err := d.until(ctx, "a leader, seen through the client agent "+ip, func() error { return d.hasLeader(ip) }); err != nil {
			return err
		}
	}

	d.title("Federate them")
	if err := d.command(ctx, "127.0.1.1", "wan", "join", "127.0.2.1"); err != nil {
		return err
	}
	if err := d.until(ctx, "dc1 knows dc2", func() error { return d.knows("127.0.1.4", "dc2") }); err != nil {
		return err
	}
	if err := d.until(ctx, "dc2 knows dc1", func() error { return d.knows("127.0.2.4", "dc1") }); err != nil {
		return err
	}

	d.title("Register a service in each")
	for _, ip := range []string{"127.0.1.4", "127.0.2.4"} {
		if err := d.command(ctx, ip, "services", "register", "-name=web", "-port=8080", "-tag=demo", "-address="+ip); err != nil {
			return err
		}
	}

	d.title("A key written in dc1, read in dc2 with ?dc=dc1")
	if err := d.command(ctx, "127.0.1.4", "kv", "put", "demo/greeting", "hello from dc1"); err != nil {
		return err
	}
	if err := d.command(ctx, "127.0.2.4", "kv", "get", "-datacenter=dc1", "demo/greeting"); err != nil {
		return err
	}
	if err := d.get(ctx, "http://127.0.2.4:8500/v1/kv/demo/greeting?dc=dc1&raw"); err != nil {
		return err
	}

	d.title("web.service.dc2.consul, asked in dc1 over DNS")
	if err := d.dig(ctx, "127.0.1.4:8600", "web.service.dc2.consul."); err != nil {
		return err
	}

	d.title("Who is there")
	for _, args := range [][]string{{"members"}, {"wan", "members"}} {
		if err := d.command(ctx, "127.0.1.1", args...); err != nil {
			return err
		}
	}

	d.title("Try it yourself")
	fmt.Print(`  curl 'http://127.0.1.4:8500/v1/health/service/web?dc=dc2&pretty'
  curl 'http://127.0.1.4:8500/v1/catalog/datacenters'
  curl 'http://127.0.1.1:8500/metrics'
  dig @127.0.1.4 -p 8600 web.service.dc2.consul SRV
  CONSUL_HTTP_ADDR=127.0.2.4:8500 ` + d.bin + ` kv get -datacenter=dc1 demo/greeting
`)
	return nil
}
