package store

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"sync/atomic"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendJSONString appends s as a JSON string, byte for byte as encoding/json
// does by default: with <, > and & escaped, and invalid UTF-8 replaced.
func AppendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, '\\', 'b')
			case '\f':
				b = append(b, '\\', 'f')
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, s[start:i]...)
			b = append(b, `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			// Valid JSON, but not valid JavaScript before ES2019.
			b = append(b, s[start:i]...)
			b = append(b, `\u202`...)
			b = append(b, hexDigits[r&15])
		default:
			i += n
			continue
		}
		i += n
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// field appends ,"name": or, for the first field, {"name":. The name holds
// nothing that needs escaping.
func field(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func fieldString(b []byte, name, v string) []byte { return AppendJSONString(field(b, name), v) }

func fieldUint(b []byte, name string, v uint64) []byte {
	return strconv.AppendUint(field(b, name), v, 10)
}

func fieldInt(b []byte, name string, v int) []byte {
	return strconv.AppendInt(field(b, name), int64(v), 10)
}

func fieldBool(b []byte, name string, v bool) []byte {
	return strconv.AppendBool(field(b, name), v)
}

// fieldStrings appends a list; none is [], never null.
func fieldStrings(b []byte, name string, v []string) []byte {
	return AppendJSONStrings(field(b, name), v)
}

// AppendJSONStrings appends a list of strings; none is [], never null.
func AppendJSONStrings(b []byte, v []string) []byte {
	b = append(b, '[')
	for i, s := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendJSONString(b, s)
	}
	return append(b, ']')
}

// fieldMap appends a map with its keys sorted; a nil one is null.
func fieldMap(b []byte, name string, m map[string]string) []byte {
	b = field(b, name)
	if m == nil {
		return append(b, "null"...)
	}
	b = append(b, '{')
	for i, k := range sortedKeys(m) {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendJSONString(b, k)
		b = append(b, ':')
		b = AppendJSONString(b, m[k])
	}
	return append(b, '}')
}

func fieldAddresses(b []byte, name string, m map[string]ServiceAddress) []byte {
	b = append(field(b, name), '{')
	for i, k := range sortedKeys(m) {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendJSONString(b, k)
		b = append(b, ':', '{')
		b = fieldString(b, "Address", m[k].Address)
		b = fieldInt(b, "Port", m[k].Port)
		b = append(b, '}')
	}
	return append(b, '}')
}

// fieldRaw appends v as it is, apart from HTML escaping, or otherwise if there
// is none.
func fieldRaw(b []byte, name string, v json.RawMessage, otherwise string) []byte {
	b = field(b, name)
	if len(v) == 0 {
		return append(b, otherwise...)
	}
	if !bytes.ContainsAny(v, "<>&\u2028\u2029") {
		return append(b, v...)
	}
	buf := bytes.NewBuffer(b)
	json.HTMLEscape(buf, v)
	return buf.Bytes()
}

func sortedKeys[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// fragment returns what *at holds, or encodes and publishes it. Two first
// readers at once both encode; either result is good.
func fragment(at *atomic.Pointer[[]byte], encode func([]byte) []byte) []byte {
	if p := at.Load(); p != nil {
		return *p
	}
	b := encode(make([]byte, 0, 512))
	if cap(b)-len(b) > 64 {
		b = bytes.Clone(b) // it may live as long as its row
	}
	at.Store(&b)
	return b
}
