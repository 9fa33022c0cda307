package check

import (
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"

	"landbridge/store"
)

var quiet = log.New(io.Discard, "", 0)

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var code int
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &code); err != nil {
			code = 200
		}
		if code == 302 {
			w.Header().Set("Location", "/200")
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, "%s|%s|%s|%s", r.Method, r.Header.Get("User-Agent"), r.Header.Get("Accept"), r.Header.Get("X-A"))
	})
	mux.HandleFunc("/seen", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "host=%s encoding=%s connection=%s close=%t two=%q body=%s", r.Host, r.Header.Get("Accept-Encoding"),
			r.Header.Get("Connection"), r.Close, r.Header["X-Two"], body)
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("z", 10000)) })
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprint(z, strings.Repeat("g", 1<<20))
		_ = z.Close()
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "begin")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	srv := server(t, false, mux)
	url, host := srv.URL, strings.TrimPrefix(srv.URL, "http://")
	nobody := closedPort
	for name, c := range map[string]struct {
		probe          HTTP
		status, output string
	}{
		"ok":          {HTTP{URL: url}, store.Passing, "HTTP GET " + url + ": 200 OK Output: GET|Consul Health Check|text/plain, text/*, */*|"},
		"header":      {HTTP{URL: url, Method: "PUT", Header: map[string][]string{"X-A": {"b"}, "User-Agent": {"me"}}}, store.Passing, "HTTP PUT " + url + ": 200 OK Output: PUT|me|text/plain, text/*, */*|b"},
		"no content":  {HTTP{URL: url + "/204"}, store.Passing, "HTTP GET " + url + "/204: 204 No Content Output: "},
		"warning":     {HTTP{URL: url + "/429"}, store.Warning, "HTTP GET " + url + "/429: 429 Too Many Requests Output: *"},
		"critical":    {HTTP{URL: url + "/500"}, store.Critical, "HTTP GET " + url + "/500: 500 Internal Server Error Output: *"},
		"redirect":    {HTTP{URL: url + "/302"}, store.Passing, "HTTP GET " + url + "/302: 200 OK Output: *"},
		"no redirect": {HTTP{URL: url + "/302", NoRedirects: true}, store.Critical, "HTTP GET " + url + "/302: 302 Found Output: *"},
		"long":        {HTTP{URL: url + "/long"}, store.Passing, "HTTP GET " + url + "/long: 200 OK Output: " + strings.Repeat("z", 4096)},
		"gzip":        {HTTP{URL: url + "/gzip"}, store.Passing, "HTTP GET " + url + "/gzip: 200 OK Output: " + strings.Repeat("g", 4096)},
		"cut short":   {HTTP{URL: url + "/cut"}, store.Passing, "HTTP GET " + url + "/cut: 200 OK Output: begin"},
		"as seen by the service": {HTTP{URL: url + "/seen", Method: "POST", Body: "hello", Header: map[string][]string{"Host": {"web.example"}, "X-Two": {"1", "2"}}},
			store.Passing, "HTTP POST " + url + `/seen: 200 OK Output: host=web.example encoding=gzip connection=close close=true two=["1" "2"] body=hello`},
		"refused":    {HTTP{URL: "http://" + nobody}, store.Critical, `Get "http://` + nobody + `": dial tcp ` + nobody + ": connect: connection refused"},
		"no URL":     {HTTP{URL: "::"}, store.Critical, `parse "::": missing protocol scheme`},
		"odd method": {HTTP{URL: url, Method: "a b"}, store.Critical, `net/http: invalid method "a b"`},
		"tls":        {HTTP{URL: "https://" + host}, store.Critical, `Get "https://` + host + `": http: server gave HTTP response to HTTPS client`},
	} {
		t.Run(name, func(t *testing.T) {
			c.probe.Limit = 4096
			wants(t, &c.probe, c.status, c.output)
		})
	}
}

func TestHTTPS(t *testing.T) {
	srv := server(t, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %d", r.TLS.ServerName, len(r.TLS.PeerCertificates))
	}))
	srv.TLS.ClientAuth = tls.RequestClientCert
	ok := "HTTP GET " + srv.URL + ": 200 OK Output: "
	trusts := trusting(srv)
	named := trusts
	named.ServerName = "example.com"
	wrong := trusts
	wrong.ServerName = "other.example"
	withCert := TLS{Agent: func() (*tls.Config, error) {
		cfg, err := trusts.Agent()
		cfg.Certificates = srv.TLS.Certificates
		return cfg, err
	}}
	broken := TLS{Agent: func() (*tls.Config, error) { return nil, fmt.Errorf("cert_file: gone") }}
	for name, c := range map[string]struct {
		tls            TLS
		status, output string
	}{
		"unknown authority": {TLS{}, store.Critical, `Get "` + srv.URL + `": ` + unknownAuthority},
		"skip verify":       {TLS{SkipVerify: true}, store.Passing, ok + " 0"},
		"authority":         {trusts, store.Passing, ok + " 0"},
		"server name":       {named, store.Passing, ok + "example.com 0"},
		"wrong server name": {wrong, store.Critical, `Get "` + srv.URL + `": tls: failed to verify certificate: x509: certificate is valid for example.com, *`},
		"agent's own":       {withCert, store.Passing, ok + " 1"},
		"unreadable files":  {broken, store.Critical, "cert_file: gone"},
	} {
		t.Run(name, func(t *testing.T) { wants(t, &HTTP{URL: srv.URL, Limit: 100, TLS: c.tls}, c.status, c.output) })
	}
}
