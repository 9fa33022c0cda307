package h1

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

const (
	// bufferSize bounds the head of a simple request, and with it what an idle
	// connection costs.
	bufferSize = 4 << 10
	// maxBody bounds the body of a simple request.
	maxBody = 64 << 10
	// maxHeaders bounds the header lines of a simple request.
	maxHeaders = 32
)

// head is a parsed request line with headers. Its memory is used again for the
// next one: strings excepted, which are copies.
type head struct {
	method, target string
	host           string
	length         int  // of the body
	close          bool // the client wants the connection closed after the answer
	header         http.Header

	text   string // of the header lines that header, host, length and close came from
	values [maxHeaders]string
	url    url.URL
}

// endOfHead returns the length of the head at the beginning of b, with its empty
// line, 0 if it is not complete. The first from bytes are known not to end one.
func endOfHead(b []byte, from int) int {
	from = max(0, from-3)
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return 0
}

// parse reads a whole head; false if it is not one of a simple request.
func (h *head) parse(b []byte) bool {
	eol := bytes.IndexByte(b, '\r')
	if eol < 0 || b[eol+1] != '\n' {
		return false
	}
	line, lines := b[:eol], b[eol+2:len(b)-2]
	sp := bytes.IndexByte(line, ' ')
	if sp < 0 {
		return false
	}
	if h.method = method(line[:sp]); h.method == "" {
		return false
	}
	target, ok := bytes.CutSuffix(line[sp+1:], []byte(" HTTP/1.1"))
	if !ok || !h.setTarget(target) {
		return false
	}
	if h.text != "" && string(lines) == h.text {
		return true
	}
	text := string(lines)
	h.text = ""
	if !h.setHeaders(text) {
		return false
	}
	h.text = text
	return true
}

// method gives the constant for a method that simple requests have.
func method(b []byte) string {
	switch string(b) {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPut:
		return http.MethodPut
	case http.MethodDelete:
		return http.MethodDelete
	case http.MethodPost:
		return http.MethodPost
	}
	return ""
}

// setTarget takes a target in origin form.
func (h *head) setTarget(b []byte) bool {
	// "//host/path" names an authority in net/url's eyes.
	if len(b) == 0 || b[0] != '/' || len(b) > 1 && b[1] == '/' {
		return false
	}
	query, plain := -1, true
	for i, c := range b {
		switch {
		case c <= ' ' || c >= 0x7f:
			return false
		case c == '?' && query < 0:
			query = i
		case query < 0 && !plainInPath(c):
			plain = false
		}
	}
	if string(b) == h.target {
		return true // and url is its
	}
	h.target = string(b)
	if !plain {
		u, err := url.ParseRequestURI(h.target)
		if err != nil {
			h.target = ""
			return false
		}
		h.url = *u
		return true
	}
	switch {
	case query < 0:
		h.url = url.URL{Path: h.target}
	default:
		// net/url notes a lone "?" at the end.
		h.url = url.URL{Path: h.target[:query], RawQuery: h.target[query+1:], ForceQuery: query+1 == len(h.target)}
	}
	return true
}

// plainInPath is whether net/url would keep c in a path as it is.
func plainInPath(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("/-_.~$&+:=@,;", c) >= 0
}

// setHeaders takes header lines, each with its CRLF.
func (h *head) setHeaders(text string) bool {
	if h.header == nil {
		h.header = make(http.Header, 8)
	}
	clear(h.header)
	h.host, h.length, h.close = "", 0, false
	hosts, lengths := 0, 0
	for n := 0; text != ""; n++ {
		line, rest, ok := strings.Cut(text, "\r\n")
		name, value, colon := strings.Cut(line, ":")
		if !ok || !colon || n == maxHeaders || !token(name) {
			return false
		}
		text = rest
		value = strings.Trim(value, " \t")
		if !fieldValue(value) {
			return false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch name {
		case "Host":
			if hosts++; hosts > 1 || !plainHost(value) {
				return false
			}
			h.host = value
			continue
		case "Content-Length":
			if lengths++; lengths > 1 {
				return false
			}
			if h.length, ok = length(value); !ok {
				return false
			}
		case "Connection":
			switch {
			case strings.EqualFold(value, "keep-alive"):
			case strings.EqualFold(value, "close"):
				h.close = true
			default:
				return false
			}
		case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Pragma", "Http2-Settings":
			return false
		}
		if list := h.header[name]; list != nil {
			h.header[name] = append(list, value)
			continue
		}
		h.values[n] = value
		h.header[name] = h.values[n : n+1 : n+1]
	}
	return hosts == 1
}

// length reads a Content-Length of a simple request.
func length(s string) (int, bool) {
	if s == "" || len(s) > 6 {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, n <= maxBody
}

// token is whether s is a token of RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// fieldValue is whether s may be the value of a header.
func fieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// plainHost is whether s is a host name or address with or without a port, in
// letters that need no second look.
func plainHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._:[]", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
