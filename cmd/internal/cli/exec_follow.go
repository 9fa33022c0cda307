package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
)

func decodeJSON(r io.Reader, v any) error { return json.NewDecoder(r).Decode(v) }

// execNode is what is known of one agent.
type execNode struct {
	partial string // the beginning of a line
}

// follow prints what agents write until none said anything for a while, twice as
// long while one that took the job is still at it.
func (x *remoteExec) follow(ctx context.Context) error {
	nodes := map[string]*execNode{}
	seen := map[string]bool{}
	acked, exited, failed := 0, 0, 0
	index, heard := "0", time.Now()
	for {
		quiet := x.wait
		if acked > exited {
			quiet *= 2
		}
		left := quiet - time.Since(heard)
		if left <= 0 {
			break
		}
		keys, next, err := x.keysBelow(ctx, index, left)
		if err != nil {
			if ctx.Err() != nil {
				return failf("Interrupted: %v", context.Cause(ctx))
			}
			return failf("Failed to read the results: %w", err)
		}
		index = next
		// An agent writes exit last, but its name sorts before out: only what was
		// there when exit was is printed before it.
		var exits []string
		known := len(seen)
		for _, key := range keys {
			rest := strings.TrimPrefix(key, x.dir()+"/")
			name, what, ok := cutNode(rest)
			if !ok || seen[key] {
				continue
			}
			seen[key] = true
			n := nodes[name]
			if n == nil {
				n = &execNode{}
				nodes[name] = n
			}
			switch {
			case what == "ack":
				acked++
				x.logf("%s: acknowledged", printable(name))
			case what == "exit":
				exits = append(exits, name)
			default:
				if err := x.print(ctx, name, n, key); err != nil {
					return err
				}
			}
		}
		for _, name := range exits {
			n := nodes[name]
			x.flush(name, n)
			exited++
			code, err := x.value(ctx, x.dir()+"/"+name+"/exit")
			if err != nil {
				return failf("Failed to read the results: %w", err)
			}
			if v, err := strconv.Atoi(string(code)); err != nil || v != 0 {
				failed++
			}
			x.c.printf("==> %s: finished with exit code %s\n", printable(name), printable(string(code)))
		}
		if len(seen) > known {
			heard = time.Now() // reading it all was no silence
		}
	}
	for name, n := range nodes {
		x.flush(name, n)
	}
	x.c.printf("%d / %d node(s) completed / acknowledged\n", exited, acked)
	if failed > 0 {
		return exit(2)
	}
	return nil
}

// cutNode splits NODE/ack, NODE/exit and NODE/out/NUMBER.
func cutNode(rest string) (name, what string, ok bool) {
	for _, suffix := range []string{"/ack", "/exit"} {
		if n, found := strings.CutSuffix(rest, suffix); found && n != "" {
			return n, suffix[1:], true
		}
	}
	if i := strings.LastIndex(rest, "/out/"); i > 0 {
		return rest[:i], "out", true
	}
	return "", "", false
}

func (x *remoteExec) value(ctx context.Context, key string) (value []byte, err error) {
	err = x.cl.Get(ctx, client.KeyPath(key), url.Values{"raw": {""}}, &value)
	return value, err
}

// print shows the lines of a piece of output. An empty piece is a sign of life.
func (x *remoteExec) print(ctx context.Context, name string, n *execNode, key string) error {
	piece, err := x.value(ctx, key)
	if err != nil {
		return failf("Failed to read the results: %w", err)
	}
	lines := strings.Split(n.partial+string(piece), "\n")
	n.partial = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		x.line(name, line)
	}
	return nil
}

func (x *remoteExec) flush(name string, n *execNode) {
	if n.partial != "" {
		x.line(name, n.partial)
		n.partial = ""
	}
}

func (x *remoteExec) line(name, line string) {
	fmt.Fprintf(x.c.Stdout, "%s: %s\n", printable(name), printable(strings.TrimSuffix(line, "\r")))
}
