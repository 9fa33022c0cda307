package agent

import (
	"cmp"
	"time"

	"landbridge/lan/agent/check"
)

// Time-outs of checks that name none.
const (
	probeTimeout  = 10 * time.Second
	scriptTimeout = 30 * time.Second // of scripts, in containers too
)

// newProbe makes what runs a check, with its time-out; nil for a check that runs
// nothing.
func (a *Agent) newProbe(d *CheckDefinition) (check.Probe, time.Duration) {
	timeout := cmp.Or(max(time.Duration(d.Timeout), 0), probeTimeout)
	dial := a.cfg.CheckDial
	tls := check.TLS{ServerName: d.TLSServerName, SkipVerify: d.TLSSkipVerify, Agent: a.cfg.CheckTLS}
	tlsIf := func(use bool) *check.TLS {
		if use {
			return &tls
		}
		return nil
	}
	switch d.Type() {
	case "script":
		timeout = cmp.Or(max(time.Duration(d.Timeout), 0), scriptTimeout)
		return &check.Script{Args: d.Args, Timeout: timeout, Limit: a.outputLimit(d), Slots: a.scripts}, timeout
	case "docker":
		timeout = cmp.Or(max(time.Duration(d.Timeout), 0), scriptTimeout)
		return &check.Docker{Engine: a.cfg.Docker, Container: d.DockerContainerID, Shell: d.Shell, Args: d.Args,
			Timeout: timeout, Limit: a.outputLimit(d), Dial: dial}, timeout
	case "http":
		return &check.HTTP{URL: d.HTTP, Method: d.Method, Header: d.Header, Body: d.Body, NoRedirects: d.DisableRedirects,
			TLS: tls, Limit: a.outputLimit(d), Dial: dial}, timeout
	case "tcp":
		return &check.TCP{Address: d.TCP, TLS: tlsIf(d.TCPUseTLS), Dial: dial}, timeout
	case "udp":
		return &check.UDP{Address: d.UDP, Dial: dial}, timeout
	case "grpc":
		return &check.GRPC{Target: d.GRPC, TLS: tlsIf(d.GRPCUseTLS), Dial: dial}, timeout
	case "h2ping":
		return &check.H2Ping{Address: d.H2PING, TLS: tlsIf(d.H2PingUseTLS == nil || *d.H2PingUseTLS), Dial: dial}, timeout
	case "os_service":
		return &check.OSService{Unit: d.OSService, Bus: a.cfg.SystemBus, Dial: dial}, timeout
	}
	return nil, 0
}

// capOutput cuts the output that a TTL check was told.
func (a *Agent) capOutput(d *CheckDefinition, output string) string {
	if a.discardOutput.Load() {
		return ""
	}
	return check.Cut(output, a.outputLimit(d))
}

func (a *Agent) outputLimit(d *CheckDefinition) int {
	limit := a.cfg.CheckOutputMaxSize
	if d.OutputMaxSize > 0 {
		limit = min(limit, d.OutputMaxSize)
	}
	return limit
}

// DiscardCheckOutput changes Config.DiscardCheckOutput for the results to come.
func (a *Agent) DiscardCheckOutput(discard bool) { a.discardOutput.Store(discard) }
