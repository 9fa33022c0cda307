package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write what commands print into the scripts, where they compare it")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestScripts runs the files of testdata/script: commands in one process, each
// script in a folder of its own. The format is that of testscript, of which it
// takes these commands:
//
//	landbridge ARG...   or consul: runs it; a "!" before wants failure, a number that exit code
//	stdout, stderr RE   the last output matches; "!" before: it does not
//	grep RE FILE        the file matches
//	cmp A B             files are equal; stdout and stderr stand for the last output
//	cp A B, exists FILE, env NAME=VALUE, stdin FILE, exec PROGRAM ARG...
//	serve FILE          starts an agent that answers as FILE says, and makes it the
//	                    one to ask; what it is asked is appended to "requests"
//	unix FILE SOCKET    the same on a socket file
//
// After a line "-- NAME --" stands a file's content.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		path, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			(&script{T: t, file: path, text: string(text), env: map[string]string{}}).run()
		})
	}
}

type script struct {
	*testing.T
	file, text     string
	line           int
	env            map[string]string
	stdin          string
	stdout, stderr string
}

var fileRE = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

func (s *script) run() {
	s.Chdir(s.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		s.Fatal(err)
	}
	s.env["WORK"] = dir
	at := fileRE.FindAllStringSubmatchIndex(s.text, -1)
	commands := s.text
	for i, m := range at {
		if i == 0 {
			commands = s.text[:m[0]]
		}
		end := len(s.text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		name := s.text[m[2]:m[3]]
		s.check(os.MkdirAll(filepath.Dir(name), 0o755))
		s.check(os.WriteFile(name, []byte(s.text[m[1]:end]), 0o644))
	}
	for line := range strings.Lines(commands) {
		s.line++
		if words := s.words(strings.TrimSpace(line)); len(words) > 0 {
			s.do(words)
		}
	}
}

func (s *script) check(err error) {
	s.Helper()
	if err != nil {
		s.fail("%v", err)
	}
}

func (s *script) fail(format string, args ...any) {
	s.Helper()
	s.Fatalf("%s:%d: %s\nstdout:\n%s\nstderr:\n%s", filepath.Base(s.file), s.line, fmt.Sprintf(format, args...), s.stdout, s.stderr)
}

// words splits a line at blanks outside of single quotes, and puts in variables.
func (s *script) words(line string) (out []string) {
	if line == "" || line[0] == '#' {
		return nil
	}
	var word strings.Builder
	quoted, any := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'' && quoted && i+1 < len(line) && line[i+1] == '\'':
			word.WriteByte('\'')
			i++
		case c == '\'':
			quoted, any = !quoted, true
		case c == ' ' && !quoted:
			if any || word.Len() > 0 {
				out = append(out, word.String())
			}
			word.Reset()
			any = false
		case c == '$' && !quoted && i+1 < len(line) && line[i+1] >= 'A' && line[i+1] <= 'Z':
			name := regexp.MustCompile(`^[A-Z_]+`).FindString(line[i+1:])
			word.WriteString(s.env[name])
			i += len(name)
		default:
			word.WriteByte(c)
		}
	}
	if any || word.Len() > 0 {
		out = append(out, word.String())
	}
	return out
}

func (s *script) do(words []string) {
	s.Helper()
	not, want := false, 0
	if words[0] == "!" {
		not, words = true, words[1:]
	} else if n, err := strconv.Atoi(words[0]); err == nil {
		want, words = n, words[1:]
	}
	args := words[1:]
	switch words[0] {
	case "landbridge", "consul":
		var stdout, stderr bytes.Buffer
		code := Main(s.Context(), args, Env{Stdin: strings.NewReader(s.stdin), Stdout: &stdout, Stderr: &stderr,
			Getenv: func(k string) string { return s.env[k] }})
		s.stdin, s.stdout, s.stderr = "", stdout.String(), stderr.String()
		if not && code == 0 || !not && code != want {
			s.fail("exit code %d", code)
		}
	case "stdout", "stderr":
		s.match(not, args[0], map[string]string{"stdout": s.stdout, "stderr": s.stderr}[words[0]], words[0])
	case "grep":
		s.match(not, args[0], s.read(args[1]), args[1])
	case "cmp":
		s.compare(not, args[0], args[1])
	case "cp":
		s.check(os.WriteFile(args[1], []byte(s.read(args[0])), 0o644))
	case "exists":
		if _, err := os.Stat(args[0]); (err == nil) == not {
			s.fail("%s: %v", args[0], err)
		}
	case "env":
		k, v, _ := strings.Cut(args[0], "=")
		s.env[k] = v
	case "stdin":
		s.stdin = s.read(args[0])
	case "exec":
		cmd := exec.CommandContext(s.Context(), args[0], args[1:]...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		s.stdout, s.stderr = stdout.String(), stderr.String()
		if (err == nil) == not {
			s.fail("%v", err)
		}
	case "serve", "unix":
		s.serve(args)
	default:
		s.fail("unknown command %q", words[0])
	}
}

func (s *script) read(name string) string {
	s.Helper()
	switch name {
	case "stdout":
		return s.stdout
	case "stderr":
		return s.stderr
	}
	b, err := os.ReadFile(name)
	s.check(err)
	return string(b)
}

func (s *script) match(not bool, expr, text, name string) {
	s.Helper()
	re, err := regexp.Compile("(?m)" + expr)
	s.check(err)
	if re.MatchString(text) == not {
		s.fail("%s: match of %q is %v", name, expr, !not)
	}
}

func (s *script) compare(not bool, a, b string) {
	s.Helper()
	got, want := s.read(a), s.read(b)
	if not {
		if got == want {
			s.fail("%s and %s are equal", a, b)
		}
		return
	}
	if got == want {
		return
	}
	section := "-- " + b + " --\n"
	if i := strings.Index(s.text, section); *update && i >= 0 && (a == "stdout" || a == "requests") {
		i += len(section)
		s.text = s.text[:i] + got + s.text[i+len(want):]
		s.check(os.WriteFile(s.file, []byte(s.text), 0o644))
		s.check(os.WriteFile(b, []byte(got), 0o644))
		return
	}
	s.fail("%s (-want +got):\n%s", b, cmp.Diff(want, got))
}

func (s *script) serve(args []string) {
	s.Helper()
	network, addr := "tcp", "127.0.0.1:0"
	if len(args) == 2 {
		network, addr = "unix", args[1]
	}
	ln, err := net.Listen(network, addr)
	s.check(err)
	f := &fake{answers: map[string]answer{}, log: filepath.Join(s.env["WORK"], "requests")}
	f.parse(s.read(args[0]))
	s.check(os.WriteFile(f.log, nil, 0o644))
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: f}}
	srv.Start()
	s.Cleanup(srv.Close)
	s.env["ADDR"] = ln.Addr().String()
	s.env["CONSUL_HTTP_ADDR"] = ln.Addr().String()
	if network == "unix" {
		s.env["CONSUL_HTTP_ADDR"] = "unix://" + addr
	}
}

// fake answers requests from a list. Each begins with a line "METHOD PATH STATUS",
// which headers "Name=value" may follow; the lines up to the next such are the body.
type fake struct {
	answers map[string]answer
	log     string
}

type answer struct {
	status int
	header []string
	body   string
}

var answerRE = regexp.MustCompile(`^(GET|PUT|DELETE|POST) (\S+) (\d+)((?: [\w-]+=\S+)*)$`)

func (f *fake) parse(text string) {
	key := ""
	for line := range strings.Lines(text) {
		a := f.answers[key]
		if m := answerRE.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			key, a = m[1]+" "+m[2], answer{}
			a.status, _ = strconv.Atoi(m[3])
			a.header = strings.Fields(m[4])
		} else {
			a.body += line
		}
		f.answers[key] = a
	}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	line := r.Method + " " + r.RequestURI
	a, ok := f.answers[line]
	if t := r.Header.Get("X-Consul-Token"); t != "" {
		line += " token=" + t
	}
	if u, p, ok := r.BasicAuth(); ok {
		line += " auth=" + u + ":" + p
	}
	if text := bytes.TrimSpace(body); len(text) > 0 {
		line += " " + string(text)
	}
	if log, err := os.OpenFile(f.log, os.O_APPEND|os.O_WRONLY, 0o644); err == nil {
		fmt.Fprintln(log, line)
		log.Close()
	}
	if !ok {
		a = answer{status: 599, body: "the script has no answer to " + r.Method + " " + r.RequestURI}
	}
	if a.status/100 != 2 {
		a.body = strings.TrimSpace(a.body)
	}
	for _, h := range a.header {
		k, v, _ := strings.Cut(h, "=")
		w.Header().Set(k, v)
	}
	w.WriteHeader(a.status)
	io.WriteString(w, a.body)
}
