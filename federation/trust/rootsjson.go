package trust

import (
	"context"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/rand/v2"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// caRoots is /v1/connect/ca/roots (spec/http-config-connect 3).
type caRoots struct {
	ActiveRootID string
	TrustDomain  string
	Roots        []caRoot
}

type caRoot struct {
	ID                  string
	Name                string
	SerialNumber        uint64
	SigningKeyID        string
	ExternalTrustDomain string
	NotBefore           time.Time
	NotAfter            time.Time
	RootCert            string
	IntermediateCerts   []string
	Active              bool
	PrivateKeyType      string
	PrivateKeyBits      int
	CreateIndex         store.Index
	ModifyIndex         store.Index
}

// Roots answers Trust.Roots on any server: the roots as JSON, as Pretty JSON, or
// (Raw) as PEM. It blocks while Request.MinIndex is not exceeded.
func (a *Authority) Roots(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	w := a.cfg.State.Watch()
	defer w.Close()
	rec := w.Trust()
	if req.MinIndex > 0 {
		wait := req.Wait
		if wait <= 0 {
			wait = store.DefaultQueryTime
		}
		wait = min(wait, store.MaxQueryTime)
		// Readers that began to wait together do not come back together.
		timer := time.NewTimer(wait + rand.N(wait/16+1))
		defer timer.Stop()
	blocked:
		for rec == nil || rec.ModifyIndex <= req.MinIndex {
			select {
			case <-w.C():
				rec = w.Trust()
			case <-timer.C:
				break blocked
			case <-ctx.Done():
				return nil, store.Errorf(store.KindTimeout, "roots of datacenter %s: %w", a.cfg.Datacenter, context.Cause(ctx))
			}
		}
	}
	if rec == nil || len(rec.Roots) == 0 {
		// There is a root from the moment there is a leader.
		return nil, store.ErrNoLeader
	}
	body, err := renderRoots(rec, req.Representation)
	if err != nil {
		return nil, store.Errorf(store.KindInternal, "roots of datacenter %s: %w", a.cfg.Datacenter, err)
	}
	return &rpc.Response{Index: rec.ModifyIndex, KnownLeader: true, Effective: req.Consistency, Body: body}, nil
}

func renderRoots(rec *store.Trust, as rpc.Representation) ([]byte, error) {
	out := caRoots{TrustDomain: rec.FederationID + trustDomainSuffix}
	var bundle []byte
	for i := range rec.Roots {
		c, err := x509.ParseCertificate(rec.Roots[i].DER)
		if err != nil {
			return nil, err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		bundle = append(bundle, text...)
		sum := sha1.Sum(c.Raw) // an identifier that clients know in this form, not a protection
		r := caRoot{
			ID:                  colonHex(sum[:]),
			Name:                "Consul CA Primary Cert",
			SerialNumber:        c.SerialNumber.Uint64(),
			SigningKeyID:        colonHex(c.SubjectKeyId),
			ExternalTrustDomain: rec.Roots[i].FederationID,
			NotBefore:           c.NotBefore.UTC(),
			NotAfter:            c.NotAfter.UTC(),
			RootCert:            string(text),
			Active:              i == 0,
			PrivateKeyType:      "ec",
			PrivateKeyBits:      256,
			CreateIndex:         rec.ModifyIndex,
			ModifyIndex:         rec.ModifyIndex,
		}
		if i == 0 {
			out.ActiveRootID = r.ID
			if inter, err := x509.ParseCertificate(rec.Intermediate); err == nil {
				r.SigningKeyID = colonHex(inter.SubjectKeyId)
			}
		}
		out.Roots = append(out.Roots, r)
	}
	switch as {
	case rpc.Raw:
		return bundle, nil
	case rpc.Pretty:
		b, err := json.MarshalIndent(out, "", "    ")
		return append(b, '\n'), err
	}
	return json.Marshal(out)
}

func colonHex(b []byte) string {
	parts := make([]string, len(b))
	for i := range b {
		parts[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(parts, ":")
}
