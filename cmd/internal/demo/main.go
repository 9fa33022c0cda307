// Command demo starts two datacenters of real landbridge processes on loopback,
// federates them, and shows one answering for the other. `make demo` runs it.
//
// Each datacenter has three servers and a client agent, with their data on disk
// in a temporary folder that goes when the demo ends. All share a fresh gossip
// key, so what it shows is the authenticated path. Where the default ports are
// taken, by an agent of the machine or another demo, it moves all of them up.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

func main() {
	bin := flag.String("bin", "bin/landbridge", "the landbridge binary")
	once := flag.Bool("once", false, "end after the show instead of waiting for Ctrl-C")
	keep := flag.Bool("keep", false, "keep data and logs")
	flag.Parse()

	// The agents die with the thread that started them (see start), which is this one.
	runtime.LockOSThread()
	// A closed terminal or pipe ends the demo as Ctrl-C does.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // writes then return an error, and screen ends the demo
	out := &screen{w: os.Stdout, lost: cancel}
	err := run(ctx, out, *bin, *once, *keep)
	switch {
	case out.err != nil:
		err = out.err
	case ctx.Err() != nil:
		return // ended by the user: what that interrupted is no news
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, bin string, once, keep bool) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	shift, err := freePorts()
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
	d := &demo{out: out, bin: bin, dir: dir, shift: shift, key: base64.StdEncoding.EncodeToString(key[:]), color: isTerminal(), died: make(chan string, 16)}
	defer func() {
		d.stop()
		if keep {
			fmt.Fprintln(out, "kept", dir)
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
	fmt.Fprintln(out, "\nCtrl-C ends it.")
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nstopping")
		return nil
	case name := <-d.died:
		return fmt.Errorf("%s ended by itself; its log:\n%s", name, d.logTail(name))
	}
}

// show starts everything and walks through it.
func (d *demo) show(ctx context.Context) error {
	d.title("Two datacenters: three servers and a client agent each")
	if d.shift > 0 {
		fmt.Fprintf(d.out, "  The default ports are taken on this machine: %d is added to each.\n", d.shift)
	}
	for i, dc := range []string{"dc1", "dc2"} {
		for n := 1; n <= 4; n++ {
			if err := d.start(agent{dc: dc, name: fmt.Sprintf("%s-%s", dc, []string{"s1", "s2", "s3", "c1"}[n-1]), ip: fmt.Sprintf("127.0.%d.%d", i+1, n), server: n < 4}); err != nil {
				return err
			}
		}
	}
	for _, ip := range []string{"127.0.1.4", "127.0.2.4"} {
		if err := d.until(ctx, "a leader, seen through the client agent "+ip, func() error { return d.hasLeader(ctx, ip) }); err != nil {
			return err
		}
	}

	d.title("Federate them")
	if err := d.command(ctx, "127.0.1.1", "wan", "join", d.at("127.0.2.1", wanPort)); err != nil {
		return err
	}
	if err := d.until(ctx, "dc1 knows dc2", func() error { return d.knows(ctx, "127.0.1.4", "dc2") }); err != nil {
		return err
	}
	if err := d.until(ctx, "dc2 knows dc1", func() error { return d.knows(ctx, "127.0.2.4", "dc1") }); err != nil {
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
	if err := d.get(ctx, "http://"+d.at("127.0.2.4", httpPort)+"/v1/kv/demo/greeting?dc=dc1&raw"); err != nil {
		return err
	}

	d.title("web.service.dc2.consul, asked in dc1 over DNS")
	if err := d.dig(ctx, net.JoinHostPort("127.0.1.4", d.port(dnsPort)), "web.service.dc2.consul."); err != nil {
		return err
	}

	d.title("Who is there")
	for _, args := range [][]string{{"members"}, {"wan", "members"}} {
		if err := d.command(ctx, "127.0.1.1", args...); err != nil {
			return err
		}
	}

	d.title("Try it yourself")
	fmt.Fprintf(d.out, `  curl 'http://%[1]s/v1/health/service/web?dc=dc2&pretty'
  curl 'http://%[1]s/v1/catalog/datacenters'
  curl 'http://%[2]s/metrics'
  dig @127.0.1.4 -p %[3]s web.service.dc2.consul SRV
  CONSUL_HTTP_ADDR=%[4]s %[5]s kv get -datacenter=dc1 demo/greeting
`, d.at("127.0.1.4", httpPort), d.at("127.0.1.1", httpPort), d.port(dnsPort), d.at("127.0.2.4", httpPort), d.bin)
	return nil
}
