package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-sockaddr/template"
)

// interfaces lists the addresses of this machine's interfaces that are up.
func interfaces() ([]netip.Prefix, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var out []netip.Prefix
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

func renderTemplate(s string) (string, error) { return template.Parse(s) }

// resolver turns address keys into addresses and collects what is wrong.
type resolver struct {
	machine  Machine
	errs     []error
	warnings []string
}

func (r *resolver) bad(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// text renders templates; nothing else is changed.
func (r *resolver) text(key, s string) string {
	if !strings.Contains(s, "{{") {
		return s
	}
	out, err := r.machine.Template(s)
	if err != nil {
		r.bad("%s: template %q: %w", key, s, err)
		return ""
	}
	return strings.TrimSpace(out)
}

// single resolves a key that must be one IP address. An empty one is the zero
// Addr, and an error unless optional.
func (r *resolver) single(key, s string, optional bool) netip.Addr {
	before := len(r.errs)
	list := strings.Fields(r.text(key, s))
	switch {
	case len(r.errs) > before:
		return netip.Addr{}
	case len(list) == 0:
		// A template was meant to give something even where nothing is needed.
		if !optional || s != "" {
			r.bad("%s cannot be empty", key)
		}
		return netip.Addr{}
	case len(list) > 1:
		r.bad("%s cannot contain multiple addresses: %s", key, strings.Join(list, " "))
		return netip.Addr{}
	}
	a, err := parseIP(list[0])
	if err != nil {
		r.bad("%s: %w", key, err)
	}
	return a
}

// listen resolves a key that may be several addresses or socket files.
func (r *resolver) listen(key, s string, port int, sockets bool) []Addr {
	if port < 0 {
		return nil
	}
	before := len(r.errs)
	list := strings.Fields(r.text(key, s))
	if len(list) == 0 && len(r.errs) == before {
		r.bad("%s cannot be empty", key)
	}
	var out []Addr
	for _, f := range unique(list) {
		if path, ok := strings.CutPrefix(f, "unix://"); ok {
			switch {
			case !sockets:
				r.bad("%s: DNS cannot be served on a unix socket: %s", key, f)
			case path == "":
				r.bad("%s: unix:// needs a path", key)
			default:
				out = append(out, Addr{Unix: filepath.Clean(path)})
			}
			continue
		}
		a, err := parseIP(f)
		if err != nil {
			r.bad("%s: %w", key, err)
			continue
		}
		out = append(out, Addr{AddrPort: netip.AddrPortFrom(a, uint16(port))})
	}
	return out
}

// parseIP takes an IP address; names are looked up by nobody here, since what
// an agent binds must not depend on who answers DNS.
func parseIP(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	}
	return a.Unmap(), nil
}

// cgnat is the shared address space of RFC 6598, private for our purpose.
var cgnat = netip.MustParsePrefix("100.64.0.0/10")

// advertised chooses what to tell others when the bind address is all
// addresses: the only private IPv4 address, or for :: the only public IPv6 one.
func advertised(bind netip.Addr, interfaces func() ([]netip.Prefix, error)) (netip.Addr, error) {
	list, err := interfaces()
	if err != nil {
		return netip.Addr{}, err
	}
	what := "private IPv4"
	if bind.Is6() {
		what = "public IPv6"
	}
	var found []netip.Addr
	for _, p := range list {
		a := p.Addr().Unmap()
		if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() {
			continue
		}
		if bind.Is4() && a.Is4() && (a.IsPrivate() || cgnat.Contains(a)) || bind.Is6() && a.Is6() && !a.IsPrivate() {
			found = append(found, a.WithZone(""))
		}
	}
	switch len(found) {
	case 0:
		return netip.Addr{}, fmt.Errorf("No %s address found. Please configure one with 'bind' and/or 'advertise'.", what)
	case 1:
		return found[0], nil
	}
	return netip.Addr{}, fmt.Errorf("Multiple %s addresses found. Please configure one with 'bind' and/or 'advertise'.", what)
}

// resolve fills the derived addresses of c.
func (c *Config) resolve(m Machine) ([]string, error) {
	r := &resolver{machine: m}
	c.Bind = r.single("bind_addr", c.BindAddr, false)
	c.SerfBind.LAN = r.single("serf_lan", c.SerfLAN, true)
	c.SerfBind.WAN = r.single("serf_wan", c.SerfWAN, true)

	lan := r.firstOf([]string{"advertise_addr", "advertise_addr_ipv4", "advertise_addr_ipv6"},
		c.AdvertiseAddr, c.AdvertiseAddr4, c.AdvertiseAddr6)
	wan := r.firstOf([]string{"advertise_addr_wan", "advertise_addr_wan_ipv4", "advertise_addr_wan_ipv6"},
		c.AdvertiseAddrWAN, c.AdvertiseWAN4, c.AdvertiseWAN6)
	if !lan.IsValid() && c.Bind.IsValid() {
		lan = c.Bind
		if c.Bind.IsUnspecified() {
			var err error
			if lan, err = advertised(c.Bind, m.Interfaces); err != nil {
				r.errs = append(r.errs, err)
			}
		}
	}
	if !wan.IsValid() {
		wan = lan
	}
	if lan.IsValid() && lan.IsUnspecified() {
		r.bad("advertise_addr cannot be %s", lan)
	}
	if wan.IsValid() && wan.IsUnspecified() {
		r.bad("advertise_addr_wan cannot be %s", wan)
	}
	c.LAN, c.WAN = lan, wan

	pick := func(own, key string) (string, string) {
		if own != "" {
			return "addresses." + key, own
		}
		return "client_addr", c.ClientAddr
	}
	key, s := pick(c.Addresses.HTTP, "http")
	c.Listen.HTTP = r.listen(key, s, c.Ports.HTTP, true)
	key, s = pick(c.Addresses.HTTPS, "https")
	c.Listen.HTTPS = r.listen(key, s, c.Ports.HTTPS, true)
	key, s = pick(c.Addresses.DNS, "dns")
	c.Listen.DNS = r.listen(key, s, c.Ports.DNS, c.Addresses.DNS == "")
	if c.Addresses.DNS == "" { // client_addr may name sockets for HTTP; DNS has none
		ips := c.Listen.DNS[:0]
		for _, a := range c.Listen.DNS {
			if a.Unix == "" {
				ips = append(ips, a)
			}
		}
		c.Listen.DNS = ips
	}

	c.RetryJoin = r.expand("retry_join", c.RetryJoin)
	c.RetryJoinWAN = r.expand("retry_join_wan", c.RetryJoinWAN)
	c.Recursors = r.recursors(c.Recursors, c.Listen.DNS)
	return r.warnings, errors.Join(r.errs...)
}

// firstOf resolves keys that name one address each, of the family that a key's
// suffix says, and takes the first that is set.
func (r *resolver) firstOf(keys []string, values ...string) (first netip.Addr) {
	for i, v := range values {
		a := r.single(keys[i], v, true)
		switch {
		case !a.IsValid():
		case strings.HasSuffix(keys[i], "_ipv4") && !a.Is4():
			r.bad("%s must be an IPv4 address, is %s", keys[i], a)
		case strings.HasSuffix(keys[i], "_ipv6") && !a.Is6():
			r.bad("%s must be an IPv6 address, is %s", keys[i], a)
		case !first.IsValid():
			first = a
		}
	}
	return first
}

// expand renders the templates in a list, each of which may give several
// entries, and refuses the cloud lookups we leave out.
func (r *resolver) expand(key string, list []string) []string {
	var out []string
	for _, s := range list {
		if strings.Contains(s, "provider=") {
			r.bad("%s: cloud auto-join is not supported (%q): name the addresses of servers, or a DNS name that has them all", key, providerOf(s))
			continue
		}
		if strings.Contains(s, "{{") {
			out = append(out, strings.Fields(r.text(key, s))...)
			continue
		}
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		out = append(out, s)
	}
	return unique(out)
}

// recursors completes the addresses of recursors with their port, and leaves out
// those that are this agent's own: a question would come back to it.
func (r *resolver) recursors(list []string, own []Addr) []string {
	var out []string
	for _, s := range r.expand("recursors", list) {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			a, err := parseIP(s)
			if err != nil {
				r.bad("recursors: %q is not an IP address, with or without a port", s)
				continue
			}
			ap = netip.AddrPortFrom(a, 53)
		}
		ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		if slices.ContainsFunc(own, func(l Addr) bool { return l.Unix == "" && r.reaches(ap, l.AddrPort) }) {
			r.warnings = append(r.warnings, fmt.Sprintf("recursors: %s is this agent's own DNS address: left out", s))
			continue
		}
		out = append(out, ap.String())
	}
	return unique(out)
}

// reaches is whether what is sent to an address comes to a socket of ours.
func (r *resolver) reaches(to, listen netip.AddrPort) bool {
	if to.Port() != listen.Port() {
		return false
	}
	if !listen.Addr().IsUnspecified() {
		return to.Addr() == listen.Addr()
	}
	if to.Addr().Is6() && listen.Addr().Is4() {
		return false
	}
	if to.Addr().IsLoopback() || to.Addr().IsUnspecified() {
		return true
	}
	all, err := r.machine.Interfaces()
	return err == nil && slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Addr().Unmap().WithZone("") == to.Addr() })
}

// providerOf keeps the provider's name alone: the other fields hold secrets.
func providerOf(s string) string {
	for f := range strings.FieldsSeq(s) {
		if strings.HasPrefix(f, "provider=") {
			return f
		}
	}
	return "provider="
}
