package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Options say which agent to speak to and how. Zero fields are taken from the
// environment by FromEnv.
type Options struct {
	Addr       string // host:port, http(s)://host:port[/prefix], unix:///path
	Token      string
	TokenFile  string
	CAFile     string
	CAPath     string
	ClientCert string
	ClientKey  string
	ServerName string // tls-server-name
	Datacenter string
	Stale      bool

	SSL      bool // https where Addr names no scheme
	NoVerify bool // do not verify the server's certificate
	Auth     string

	// Transport carries the requests; nil is the network.
	Transport http.RoundTripper
}

// Default is the address of an agent that listens where agents do.
const Default = "127.0.0.1:8500"

// Getenv looks up one of the client's variables: LANDBRIDGE_name wins over
// CONSUL_name.
func Getenv(getenv func(string) string, name string) string {
	if v := getenv("LANDBRIDGE_" + name); v != "" {
		return v
	}
	return getenv("CONSUL_" + name)
}

// FromEnv fills the fields of o that are zero from the environment.
func (o Options) FromEnv(getenv func(string) string) (Options, error) {
	var errs []error
	fill := func(to *string, name string) {
		if *to == "" {
			*to = Getenv(getenv, name)
		}
	}
	flag := func(name string, unset bool) bool {
		v := Getenv(getenv, name)
		if v == "" {
			return unset
		}
		b, err := strconv.ParseBool(v)
		if err != nil {
			full := "CONSUL_" + name
			if getenv("LANDBRIDGE_"+name) != "" {
				full = "LANDBRIDGE_" + name
			}
			errs = append(errs, fmt.Errorf("environment variable %s must be a boolean, is %q", full, v))
		}
		return b
	}
	fill(&o.Addr, "HTTP_ADDR")
	// A token on the command line, even by file, wins over any in the environment.
	if o.Token == "" && o.TokenFile == "" {
		fill(&o.Token, "HTTP_TOKEN")
		fill(&o.TokenFile, "HTTP_TOKEN_FILE")
	}
	fill(&o.CAFile, "CACERT")
	fill(&o.CAPath, "CAPATH")
	fill(&o.ClientCert, "CLIENT_CERT")
	fill(&o.ClientKey, "CLIENT_KEY")
	fill(&o.ServerName, "TLS_SERVER_NAME")
	fill(&o.Auth, "HTTP_AUTH")
	o.SSL = o.SSL || flag("HTTP_SSL", false)
	o.NoVerify = o.NoVerify || !flag("HTTP_SSL_VERIFY", true)
	return o, errors.Join(errs...)
}

// endpoint splits an address into the URL to send to and, for unix sockets,
// the path to dial.
func (o Options) endpoint() (base *url.URL, socket string, err error) {
	addr := o.Addr
	if addr == "" {
		addr = Default
	}
	scheme := "http"
	if o.SSL {
		scheme = "https"
	}
	before, rest, ok := strings.Cut(addr, "://")
	switch {
	case !ok:
		rest = addr
	case before == "unix":
		if rest == "" {
			return nil, "", fmt.Errorf("address %q: unix:// needs a path", addr)
		}
		return &url.URL{Scheme: scheme, Host: "localhost"}, rest, nil
	case before == "http" || before == "https":
		scheme = before
	case before == "tcp":
	default:
		return nil, "", fmt.Errorf("address %q: unknown scheme %q; use http, https or unix", addr, before)
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return nil, "", fmt.Errorf("address %q: %w", addr, err)
	}
	if u.Host == "" {
		return nil, "", fmt.Errorf("address %q names no host", addr)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	u.RawPath, u.RawQuery, u.Fragment = "", "", ""
	return u, "", nil
}

func (o Options) token() (string, error) {
	if o.Token != "" || o.TokenFile == "" {
		return o.Token, nil
	}
	b, err := os.ReadFile(o.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("token file %s is empty", o.TokenFile)
	}
	return token, nil
}

func (o Options) tls() (*tls.Config, error) {
	cfg := &tls.Config{ServerName: o.ServerName, InsecureSkipVerify: o.NoVerify, MinVersion: tls.VersionTLS12}
	if o.CAFile != "" || o.CAPath != "" {
		pool, err := authorities(o.CAFile, o.CAPath)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	if (o.ClientCert == "") != (o.ClientKey == "") {
		return nil, errors.New("a client certificate and its key belong together, and one is missing")
	}
	if o.ClientCert != "" {
		cert, err := tls.LoadX509KeyPair(o.ClientCert, o.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("load the client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

func authorities(file, dir string) (*x509.CertPool, error) {
	paths := []string{file}
	if file == "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		paths = nil
		for _, e := range entries {
			if !e.IsDir() {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
	}
	pool := x509.NewCertPool()
	for _, path := range paths {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in PEM form", path)
		}
	}
	return pool, nil
}
