package httpapi

import (
	"net/url"
	"strings"
)

// flag marks a parameter as given, whatever its value.
type flag uint64

const (
	fStale flag = 1 << iota
	fConsistent
	fLeader
	fCached
	fPretty
	fRecurse
	fKeys
	fRaw
	fPassing
	fSeparator
	fFlags
	fCAS
	fAcquire
	fRelease
	fPrune
	fReplaceChecks
	fEnable
	fHash
	fPeer
	fMaxStale
	fLogJSON
	fLimit
	fStaleIfError
)

// params holds the parameters of a query string that the interface knows; others
// are ignored, as clients expect. Repeated ones keep their first value, except
// tag and node-meta, which add up.
type params struct {
	given flag

	dc, token, ns, partition       string
	index, wait, maxStale, filter  string
	near, passing, separator       string
	flags, cas, acquire, release   string
	hash, format, wan, segment, sg string
	enable, reason, note, loglevel string
	replaceChecks                  string
	limit, connect, staleIfError   string

	tags     []string
	nodeMeta map[string]string
}

func (p *params) has(f flag) bool { return p.given&f != 0 }

// parse reads a raw query. Pairs that are not well-formed are left out, as in
// net/url. It allocates only for escaped values, tag and node-meta.
func (p *params) parse(raw string) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" || strings.IndexByte(pair, ';') >= 0 {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key, ok := unescape(key)
		if !ok {
			continue
		}
		if value, ok = unescape(value); !ok {
			continue
		}
		p.set(key, value)
	}
}

func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, true
	}
	u, err := url.QueryUnescape(s)
	return u, err == nil
}

func first(dst *string, v string) {
	if *dst == "" {
		*dst = v
	}
}

func (p *params) set(key, v string) {
	switch key {
	case "dc":
		first(&p.dc, v)
	case "token":
		first(&p.token, v)
	case "ns":
		first(&p.ns, v)
	case "partition":
		first(&p.partition, v)
	case "index":
		first(&p.index, v)
	case "wait":
		first(&p.wait, v)
	case "max_stale":
		p.given |= fMaxStale
		first(&p.maxStale, v)
	case "filter":
		first(&p.filter, v)
	case "near":
		first(&p.near, v)
	case "stale":
		p.given |= fStale
	case "consistent":
		p.given |= fConsistent
	case "leader":
		p.given |= fLeader
	case "cached":
		p.given |= fCached
	case "pretty":
		p.given |= fPretty
	case "recurse":
		p.given |= fRecurse
	case "keys":
		p.given |= fKeys
	case "raw":
		p.given |= fRaw
	case "passing":
		p.given |= fPassing
		first(&p.passing, v)
	case "separator":
		p.given |= fSeparator
		first(&p.separator, v)
	case "flags":
		p.given |= fFlags
		first(&p.flags, v)
	case "cas":
		p.given |= fCAS
		first(&p.cas, v)
	case "acquire":
		p.given |= fAcquire
		first(&p.acquire, v)
	case "release":
		p.given |= fRelease
		first(&p.release, v)
	case "tag":
		p.tags = append(p.tags, v)
	case "node-meta":
		k, val, _ := strings.Cut(v, ":")
		if p.nodeMeta == nil {
			p.nodeMeta = make(map[string]string)
		}
		p.nodeMeta[k] = val
	case "hash":
		p.given |= fHash
		first(&p.hash, v)
	case "format":
		first(&p.format, v)
	case "wan":
		first(&p.wan, v)
	case "segment":
		first(&p.segment, v)
	case "sg":
		first(&p.sg, v)
	case "peer":
		if v != "" {
			p.given |= fPeer
		}
	case "enable":
		p.given |= fEnable
		first(&p.enable, v)
	case "reason":
		first(&p.reason, v)
	case "note":
		first(&p.note, v)
	case "prune":
		p.given |= fPrune
	case "replace-existing-checks":
		p.given |= fReplaceChecks
		first(&p.replaceChecks, v)
	case "loglevel":
		first(&p.loglevel, v)
	case "stale-if-error":
		p.given |= fStaleIfError
		first(&p.staleIfError, v)
	case "limit":
		p.given |= fLimit
		first(&p.limit, v)
	case "connect":
		first(&p.connect, v)
	case "logjson":
		p.given |= fLogJSON
	}
}
