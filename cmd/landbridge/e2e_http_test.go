//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestHTTPFacts sends the requests of testdata/http to two federated agents.
func TestHTTPFacts(t *testing.T) {
	dir := t.TempDir()
	a := newAgent(t, dir, "a", "dc1", "127.9.1.1", map[string]any{"bootstrap_expect": 1})
	b := newAgent(t, dir, "b", "dc2", "127.9.2.1", map[string]any{"bootstrap_expect": 1, "retry_join_wan": []string{"127.9.1.1"}})
	a.start()
	b.start()
	until(t, 20*time.Second, "dc1 sees dc2", func() bool {
		_, body := a.do("GET", "/v1/catalog/datacenters", "")
		return strings.Contains(body, "dc2")
	})
	until(t, 20*time.Second, "the agent is in its own catalog", func() bool {
		_, body := a.do("GET", "/v1/health/node/a", "")
		return strings.Contains(body, "serfHealth")
	})
	files, err := filepath.Glob("testdata/http/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no case files: %v", err)
	}
	r := &factRunner{agents: map[string]*agentProcess{"a": a, "b": b}, vars: map[string]string{"ip": regexp.QuoteMeta(a.IP)}}
	for _, file := range files {
		cases, err := parseFacts(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			for end := time.Now().Add(15 * time.Second); ; time.Sleep(200 * time.Millisecond) {
				bad := r.check(c)
				if len(bad) == 0 {
					break
				}
				if !c.retry || time.Now().After(end) {
					t.Errorf("%s:%d %s %s %s\n  %s", file, c.line, c.agent, c.method, c.path, strings.Join(bad, "\n  "))
					break
				}
			}
		}
	}
}

type fact struct {
	line                      int
	agent, method, path, body string
	headers, expects          []string
	retry                     bool
}

func parseFacts(file string) ([]*fact, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []*fact
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		l := sc.Text()
		if strings.TrimSpace(l) == "" || strings.HasPrefix(l, "#") {
			continue
		}
		if !strings.HasPrefix(l, " ") {
			p := strings.SplitN(l, " ", 3)
			if len(p) != 3 {
				return nil, fmt.Errorf("%s:%d: want AGENT METHOD PATH", file, n)
			}
			out = append(out, &fact{line: n, agent: p[0], method: p[1], path: p[2]})
			continue
		}
		c := out[len(out)-1]
		l = strings.TrimSpace(l)
		switch {
		case strings.HasPrefix(l, "< "):
			c.body = l[2:]
		case strings.HasPrefix(l, "> "):
			c.headers = append(c.headers, l[2:])
		case l == "retry":
			c.retry = true
		default:
			c.expects = append(c.expects, l)
		}
	}
	return out, sc.Err()
}

type factRunner struct {
	agents map[string]*agentProcess
	vars   map[string]string
}

var varRE = regexp.MustCompile(`\{(\w+)\}`)

func (r *factRunner) sub(s string) string {
	return varRE.ReplaceAllStringFunc(s, func(m string) string {
		if v, ok := r.vars[m[1:len(m)-1]]; ok {
			return v
		}
		return m
	})
}

func (r *factRunner) check(c *fact) (bad []string) {
	fail := func(format string, v ...any) { bad = append(bad, fmt.Sprintf(format, v...)) }
	body := r.sub(c.body)
	if n, ok := strings.CutPrefix(body, "@bytes "); ok {
		var count int
		fmt.Sscan(n, &count)
		body = strings.Repeat("x", count)
	}
	req, err := http.NewRequest(c.method, r.agents[c.agent].url(r.sub(c.path)), strings.NewReader(body))
	if err != nil {
		return []string{err.Error()}
	}
	for _, h := range c.headers {
		name, value, _ := strings.Cut(r.sub(h), ": ")
		req.Header.Set(name, value)
	}
	start := time.Now()
	resp, err := httpClient.Do(req)
	if err != nil {
		return []string{err.Error()}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return []string{err.Error()}
	}
	took := time.Since(start)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return []string{err.Error()}
		}
		if raw, err = io.ReadAll(zr); err != nil {
			return []string{err.Error()}
		}
	}
	got := string(raw)
	if len(c.expects) == 0 {
		fail("no expectation")
	}
	for _, e := range c.expects {
		op, arg, _ := strings.Cut(r.sub(e), " ")
		switch op {
		case "type":
			if ct := resp.Header.Get("Content-Type"); ct != arg && (arg != "-" || ct != "") {
				fail("Content-Type %q, want %q", ct, arg)
			}
		case "=":
			if flat := strings.ReplaceAll(got, "\n", `\n`); flat != arg {
				fail("body %.300q, want %q", flat, arg)
			}
		case "~", "!~":
			if re, err := regexp.Compile(arg); err != nil {
				fail("%v", err)
			} else if re.MatchString(got) != (op == "~") {
				fail("body %.300q, want %s %q", got, op, arg)
			}
		case "h":
			name, want, _ := strings.Cut(arg, ": ")
			value := strings.Join(resp.Header.Values(name), ",")
			if re, ok := strings.CutPrefix(want, "~"); ok {
				if !regexp.MustCompile(re).MatchString(value) {
					fail("%s %q, want ~ %q", name, value, re)
				}
			} else if value != want {
				fail("%s %q, want %q", name, value, want)
			}
		case "!h":
			if v := resp.Header.Values(arg); len(v) > 0 {
				fail("unwanted header %s %q", arg, v)
			}
		case "min", "max":
			d, err := time.ParseDuration(arg)
			if err != nil {
				fail("%v", err)
			} else if (op == "min" && took < d) || (op == "max" && took > d) {
				fail("took %s, want %s %s", took.Round(time.Millisecond), op, arg)
			}
		case "cap":
			name, re, _ := strings.Cut(arg, " ")
			if m := regexp.MustCompile(re).FindStringSubmatch(got); m != nil {
				r.vars[name] = m[1]
			} else {
				fail("no match to capture %s from %.200q", name, got)
			}
		default:
			if s := fmt.Sprint(resp.StatusCode); s != r.sub(e) {
				fail("status %s, want %s (body %.200q)", s, e, got)
			}
		}
	}
	return bad
}
