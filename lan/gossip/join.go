package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/serf/serf"
)

// joinsAtOnce bounds the addresses tried at the same time.
const joinsAtOnce = 8

// Join contacts the addresses ("host", "host:port", "[v6]:port", or with a
// member's name in front, "name/host:port") and exchanges the full state with
// each. It returns how many answered, and an error only if none did: that one
// names each address and its reason. Addresses are tried side by side, so that a
// dead one costs no more than its own time-out; when ctx is done first, those
// still under way go on without the caller.
func (p *Pool) Join(ctx context.Context, addrs []string) (int, error) {
	if len(addrs) == 0 {
		return 0, nil
	}
	targets, errs := p.resolve(ctx, addrs)
	if len(targets) == 0 {
		return 0, joinError(p.cfg.scope(), errs)
	}
	return await(ctx, p, func(s *serf.Serf) (int, error) {
		isNew := alone(s)
		if isNew {
			p.newcomer.begin()
		}
		joined, failed := joinAll(s, targets)
		if isNew {
			for _, e := range p.newcomer.end(eventTime(s)) {
				p.deliver(e)
			}
		}
		if len(joined) == 0 {
			return 0, joinError(p.cfg.scope(), append(errs, failed...))
		}
		p.spawn(func(s *serf.Serf) { p.sayBack(s, joined[0]) })
		return len(joined), nil
	})
}

// sayBack joins once more through serf, with one of those that answered: it also
// tells the pool that this agent is back, should it have left before. Nobody waits
// for that: who was joined is a member already. serf does one at a time and holds a
// mutex while it waits for the network; we queue on a channel instead, since virtual
// time stands still for a mutex.
func (p *Pool) sayBack(s *serf.Serf, addr string) {
	p.intent <- struct{}{}
	defer func() { <-p.intent }()
	if _, err := s.Join([]string{addr}, true); err != nil {
		p.log.Debug("join intent not sent", "err", err)
	}
}

func joinAll(s *serf.Serf, targets []string) (joined []string, errs []error) {
	var (
		mu  sync.Mutex
		wg  sync.WaitGroup
		sem = make(chan struct{}, joinsAtOnce)
	)
	for _, t := range targets {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			_, err := s.Memberlist().Join([]string{t})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, flatten(err)...)
				return
			}
			joined = append(joined, t)
		})
	}
	wg.Wait()
	return joined, errs
}

// flatten takes apart memberlist's list of errors, which prints over many lines.
func flatten(err error) []error {
	if m, ok := err.(interface{ WrappedErrors() []error }); ok {
		return m.WrappedErrors()
	}
	return []error{err}
}

func joinError(scope string, errs []error) error {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return &JoinError{scope: scope, text: strings.Join(texts, "; "), errs: errs}
}

// JoinError says that no address could be joined, and why.
type JoinError struct {
	scope, text string
	errs        []error
}

func (e *JoinError) Error() string   { return e.scope + " gossip: " + e.text }
func (e *JoinError) Unwrap() []error { return e.errs }

// resolve looks host names up, since memberlist would do so without a deadline.
func (p *Pool) resolve(ctx context.Context, addrs []string) (targets []string, errs []error) {
	for _, a := range addrs {
		list, err := p.resolveOne(ctx, a)
		if err != nil {
			errs = append(errs, err)
		}
		targets = append(targets, list...)
	}
	return targets, errs
}

func (p *Pool) resolveOne(ctx context.Context, addr string) ([]string, error) {
	prefix, rest := "", addr
	if i := strings.IndexByte(addr, '/'); i >= 0 {
		prefix, rest = addr[:i+1], addr[i+1:]
	}
	host, port, err := splitPort(rest, p.cfg.defaultPort())
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{prefix + netip.AddrPortFrom(ip.Unmap(), port).String()}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	targets := make([]string, len(ips))
	for i, ip := range ips {
		targets[i] = prefix + netip.AddrPortFrom(ip.Unmap(), port).String()
	}
	return targets, nil
}

// splitPort accepts a bare IPv6 address, with or without brackets, too.
func splitPort(s string, def uint16) (host string, port uint16, err error) {
	if s == "" {
		return "", 0, errors.New("empty")
	}
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		s = net.JoinHostPort(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), strconv.Itoa(int(def)))
	} else if !strings.Contains(s, ":") {
		s = net.JoinHostPort(s, strconv.Itoa(int(def)))
	}
	host, ps, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(ps, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, errors.New("want host:port")
	}
	return host, uint16(n), nil
}
