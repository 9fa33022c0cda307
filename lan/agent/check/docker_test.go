package check

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"landbridge/store"
)

// dockerEngine is as much of a Docker Engine as a check needs. The program of an
// exec is its test's: the first argument is its exit code, the others its output.
type dockerEngine struct {
	command []string // of the last exec
	polls   int      // how often its state was asked for
}

func (e *dockerEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(code int, message string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
	}
	var body struct {
		AttachStdout, AttachStderr bool
		Cmd                        []string
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Content-Type") != "application/json" {
			refuse(http.StatusBadRequest, "bad request")
			return
		}
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /containers/web 1/exec":
		if !body.AttachStdout || !body.AttachStderr || len(body.Cmd) == 0 {
			refuse(http.StatusBadRequest, "No exec command specified")
			return
		}
		e.command, e.polls = body.Cmd, 0
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"Id":"e1"}`)
	case "POST /containers/paused/exec":
		refuse(http.StatusConflict, "Container paused is paused, unpause the container before exec")
	case "POST /containers/wordless/exec":
		w.WriteHeader(http.StatusInternalServerError)
	case "POST /exec/e1/start":
		w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
		if e.command[0] == "broken" {
			fmt.Fprint(w, "plain text, as with a terminal")
			return
		}
		for i, text := range e.command[1:] {
			_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{byte(1 + i%2), 0, 0, 0}, uint32(len(text))), text...))
		}
	case "GET /exec/e1/json":
		e.polls++
		if e.polls < 3 {
			fmt.Fprint(w, `{"ID":"e1","Running":true,"ExitCode":null}`)
			return
		}
		fmt.Fprintf(w, `{"ID":"e1","Running":false,"ExitCode":%s}`, e.command[0])
	default:
		refuse(http.StatusNotFound, "No such container: "+strings.Split(r.URL.Path, "/")[2])
	}
}

func TestDocker(t *testing.T) {
	engine := &dockerEngine{}
	socket := filepath.Join(t.TempDir(), "docker.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(engine)
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	defer srv.Close()
	at := "Docker Engine at unix://" + socket + ": "
	for _, c := range []struct {
		name           string
		probe          Docker
		status, output string
	}{
		{"passing", Docker{Container: "web 1", Args: []string{"0", "one ", "two"}}, store.Passing, "one two"},
		{"warning", Docker{Container: "web 1", Args: []string{"1", "hm"}}, store.Warning, "hm"},
		{"critical", Docker{Container: "web 1", Args: []string{"2"}}, store.Critical, ""},
		{"long output", Docker{Container: "web 1", Args: []string{"0", strings.Repeat("x", 500), "the end"}}, store.Passing,
			"Captured 20 of 507 bytes\n...\n" + strings.Repeat("x", 13) + "the end"},
		{"output of a terminal", Docker{Container: "web 1", Args: []string{"broken"}}, store.Critical, at + "output is not in the Engine's stream format"},
		{"no container", Docker{Container: "gone", Args: []string{"0"}}, store.Critical, at + "404 Not Found: No such container: gone"},
		{"paused", Docker{Container: "paused", Args: []string{"0"}}, store.Critical, at + "409 Conflict: Container paused is paused, unpause the container before exec"},
		{"no command", Docker{Container: "web 1"}, store.Critical, at + "400 Bad Request: No exec command specified"},
		{"no reason", Docker{Container: "wordless", Args: []string{"0"}}, store.Critical, at + "500 Internal Server Error: no reason given"},
		{"no engine", Docker{Engine: Engine{Host: "unix:///nowhere/docker.sock"}, Container: "web 1", Args: []string{"0"}}, store.Critical,
			"Docker Engine at unix:///nowhere/docker.sock: dial unix /nowhere/docker.sock: connect: no such file or directory"},
		{"odd address", Docker{Engine: Engine{Host: "npipe:////./pipe/docker_engine"}, Container: "web 1", Args: []string{"0"}}, store.Critical,
			"Docker Engine at npipe:////./pipe/docker_engine: DOCKER_HOST must begin with unix:// or tcp://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.probe.Limit = 20
			if c.probe.Engine.Host == "" {
				c.probe.Engine.Host = "unix://" + socket
			}
			wants(t, &c.probe, c.status, c.output)
		})
	}
}

func TestDockerOverTCP(t *testing.T) {
	plain, secure := server(t, false, &dockerEngine{}), server(t, true, &dockerEngine{})
	trusts := trusting(secure)
	for name, e := range map[string]Engine{
		"plain": {Host: "tcp://" + plain.Listener.Addr().String()},
		"tls":   {Host: "tcp://" + secure.Listener.Addr().String(), TLS: trusts.Agent},
	} {
		t.Run(name, func(t *testing.T) {
			wants(t, &Docker{Engine: e, Container: "web 1", Args: []string{"0", "fine"}, Limit: 100}, store.Passing, "fine")
		})
	}
}

func TestDockerShell(t *testing.T) {
	for _, c := range []struct {
		shell string
		args  []string
		want  []string
	}{
		{"", []string{"/bin/check", "-v"}, []string{"/bin/check", "-v"}},
		{"/bin/bash", []string{"df -h | grep sda"}, []string{"/bin/bash", "-c", "df -h | grep sda"}},
		{"sh", []string{"echo", "it's", "$HOME"}, []string{"sh", "-c", `'echo' 'it'\''s' '$HOME'`}},
	} {
		if got := (&Docker{Shell: c.shell, Args: c.args}).command(); !slices.Equal(got, c.want) {
			t.Errorf("%q through %q: %q, want %q", c.args, c.shell, got, c.want)
		}
	}
}

// FuzzDemultiplex takes output streams of any bytes: no more comes out than went
// in, and an error is never a silent success.
func FuzzDemultiplex(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02hi\x02\x00\x00\x00\x00\x00\x00\x01!"))
	f.Add([]byte("\x01\x00\x00\x00\xff\xff\xff\xffhi"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		err := demultiplex(&out, bytes.NewReader(in))
		frames := 0
		for rest := in; len(rest) >= 8; frames++ {
			n := uint64(binary.BigEndian.Uint32(rest[4:]))
			if n > uint64(len(rest)-8) {
				break
			}
			rest = rest[8+n:]
		}
		if err == nil && out.Len() != len(in)-8*frames {
			t.Errorf("%d bytes of %d in %d frames", out.Len(), len(in), frames)
		}
		if out.Len() > len(in) {
			t.Errorf("%d bytes of %d", out.Len(), len(in))
		}
	})
}
