package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"landbridge/store"
)

// operatorTLS is the authority an operator runs outside: files with a
// certificate, its key and the roots. The WAN needs to tell servers apart, so a
// certificate that names no node cannot serve there; the built-in authority then
// stays in charge of the WAN.
type operatorTLS struct {
	cfg     Operator
	node    string
	dc      string
	domain  string
	current atomic.Pointer[operatorCerts]
}

type operatorCerts struct {
	cert tls.Certificate
	pool *x509.CertPool
}

// newOperator reads the files if any are configured.
func newOperator(cfg *Config, now time.Time) (*operatorTLS, error) {
	o := &operatorTLS{cfg: cfg.Operator, node: cfg.Node, dc: cfg.Datacenter, domain: cfg.Domain}
	if !o.cfg.set() {
		return o, nil
	}
	c, err := o.cfg.read()
	if err != nil {
		return nil, err
	}
	who, err := o.nameOf(c.cert.Leaf)
	if err != nil {
		cfg.Logger.Warn("tls.internal_rpc certificate names no server, so servers of other datacenters could not tell who shows it: the built-in authority secures the WAN",
			"err", err, "want", o.wanted())
		return o, nil
	}
	if who.String() != o.node+"."+o.dc {
		return nil, fmt.Errorf("tls.internal_rpc.cert_file: certificate is for %s, this server is %s.%s", who, o.node, o.dc)
	}
	if _, err := c.verify([]*x509.Certificate{c.cert.Leaf}, x509.ExtKeyUsageServerAuth, now); err != nil {
		// Clocks and intermediates in cert_file are the usual reasons; peers will
		// say the same.
		cfg.Logger.Warn("tls.internal_rpc certificate does not verify against its own CA", "err", err)
	}
	o.current.Store(c)
	return o, nil
}

// on reports whether operator certificates are in force on the WAN.
func (o *operatorTLS) on() bool { return o.current.Load() != nil }

func (o *operatorTLS) certificate() *tls.Certificate { return &o.current.Load().cert }

func (o *operatorTLS) wanted() string { return o.node + ".server." + o.dc + "." + o.domain }

// reload reads the files again; an error leaves what was in force. Going over to
// operator certificates, or away from them, takes a restart.
func (o *operatorTLS) reload(files Operator) error {
	if !o.on() || !files.set() {
		return nil
	}
	c, err := files.read()
	if err != nil {
		return err
	}
	who, err := o.nameOf(c.cert.Leaf)
	if err != nil {
		return err
	}
	if who.String() != o.node+"."+o.dc {
		return fmt.Errorf("tls.internal_rpc.cert_file: certificate is for %s, this server is %s.%s", who, o.node, o.dc)
	}
	o.current.Store(c)
	return nil
}

func (o Operator) read() (*operatorCerts, error) {
	cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.internal_rpc: %w", err)
	}
	c := &operatorCerts{cert: cert, pool: x509.NewCertPool()}
	files := []string{}
	if o.CAFile != "" {
		files = append(files, o.CAFile)
	} else {
		entries, err := os.ReadDir(o.CAPath)
		if err != nil {
			return nil, fmt.Errorf("tls.internal_rpc.ca_path: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(o.CAPath, e.Name()))
			}
		}
	}
	found := false
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("tls.internal_rpc CA: %w", err)
		}
		found = c.pool.AppendCertsFromPEM(b) || found
	}
	if !found {
		return nil, errors.New("tls.internal_rpc: no CA certificate found in ca_file or ca_path")
	}
	return c, nil
}

// nameOf finds the server in a certificate's DNS names: <node>.server.<dc>.<domain>.
func (o *operatorTLS) nameOf(c *x509.Certificate) (name, error) {
	for _, n := range c.DNSNames {
		node, dc, ok := splitServerName(n)
		if ok && n == node+".server."+dc+"."+o.domain {
			return name{role: roleServer, node: node, datacenter: dc}, nil
		}
	}
	return name{}, fmt.Errorf("certificate has no name of the form <node>.server.<datacenter>.%s", o.domain)
}

// splitServerName reads <node>.server.<dc>.<domain>.
func splitServerName(n string) (node, dc string, ok bool) {
	node, rest, ok := strings.Cut(n, ".server.")
	if !ok {
		return "", "", false
	}
	dc, _, ok = strings.Cut(rest, ".")
	return node, dc, ok && validNode(node) == nil && validDatacenter(dc) == nil
}

// verify checks a chain against the operator's CA.
func (o *operatorTLS) verify(certs []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (name, error) {
	if len(certs) == 0 {
		return name{}, errors.New("no certificate presented")
	}
	who, err := o.nameOf(certs[0])
	if err != nil {
		return name{}, err
	}
	if _, err := o.current.Load().verify(certs, usage, now); err != nil {
		return name{}, fmt.Errorf("certificate of %s: %w", who, explain(err))
	}
	return who, nil
}

func (c *operatorCerts) verify(certs []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) ([][]*x509.Certificate, error) {
	if len(certs) > maxChain {
		return nil, fmt.Errorf("chain of %d certificates", len(certs))
	}
	others := x509.NewCertPool()
	for _, o := range certs[1:] {
		others.AddCert(o)
	}
	return certs[0].Verify(x509.VerifyOptions{Roots: c.pool, Intermediates: others, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
}

// checkOperator decides on either side of an enrolment in which at least one
// side uses operator certificates: both must, by one authority, each naming the
// server it says it is.
func (a *Authority) checkOperator(conn EnrollConn, theirs mode, f facts) error {
	if !a.operator.on() || theirs != modeOperator {
		with, without := a.cfg.Datacenter, f.datacenter
		if theirs == modeOperator {
			with, without = without, with
		}
		return store.Errorf(store.KindPermissionDenied,
			"datacenter %s uses certificates of an operator (tls.internal_rpc) and datacenter %s does not: give both sides certificates of one authority, or neither", with, without)
	}
	// Which side of TLS the peer was on does not matter here: operators issue
	// certificates for both.
	who, err := a.operator.verify(conn.PeerCertificates(), x509.ExtKeyUsageServerAuth, time.Now())
	if err != nil {
		return store.Errorf(store.KindPermissionDenied, "datacenter %s is not trusted by datacenter %s (tls.internal_rpc): %w", f.datacenter, a.cfg.Datacenter, err)
	}
	if who.String() != f.node+"."+f.datacenter {
		return store.Errorf(store.KindPermissionDenied, "server %s.%s showed a certificate of %s", f.node, f.datacenter, who)
	}
	return nil
}
