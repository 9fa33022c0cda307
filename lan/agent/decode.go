package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"landbridge/store"
)

// DecodeService reads the body of a service registration. Names of members
// match in any case and in snake_case; an unknown one is an error, and so is a
// value of another type. What follows the first JSON value is ignored.
func DecodeService(body []byte) (*ServiceDefinition, error) {
	return decodeBody(body, decoder{}.service)
}

// DecodeCheck reads the body of a check registration, like DecodeService.
func DecodeCheck(body []byte) (*CheckDefinition, error) {
	return decodeBody(body, func(raw json.RawMessage) (*CheckDefinition, error) {
		return decoder{}.check(raw, false)
	})
}

// DecodeServiceFile reads a service block of a configuration file, as JSON.
// Beyond what DecodeService takes, a list of one stands for its element and an
// element for a list of one, and scalars may be given as strings, as the two
// file formats produce them.
func DecodeServiceFile(data []byte) (*ServiceDefinition, error) {
	if err := valid(data); err != nil {
		return nil, err
	}
	return decoder{lenient: true}.service(data)
}

// DecodeCheckFile reads a check block of a configuration file, like
// DecodeServiceFile.
func DecodeCheckFile(data []byte) (*CheckDefinition, error) {
	if err := valid(data); err != nil {
		return nil, err
	}
	return decoder{lenient: true}.check(data, false)
}

func valid(data []byte) error {
	var raw json.RawMessage
	return json.Unmarshal(data, &raw)
}

func decodeBody[T any](body []byte, decode func(json.RawMessage) (*T, error)) (*T, error) {
	raw := json.RawMessage(body)
	var err error
	if !json.Valid(body) { // more than one value, or none: say what encoding/json says
		err = json.NewDecoder(bytes.NewReader(body)).Decode(&raw)
	}
	var v *T
	if err == nil {
		v, err = decode(raw)
	}
	if err != nil {
		return nil, store.Errorf(store.KindBadRequest, "Request decode failed: %w", err)
	}
	return v, nil
}

// fold is the form in which names of members are compared. Longer ones than any
// member's are cut, and match none.
func fold(name string) (f folded) {
	for i := 0; i < len(name) && f.n < len(f.b); i++ {
		c := name[i]
		if c == '_' {
			continue
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		f.b[f.n] = c
		f.n++
	}
	return f
}

// folded is a name without an allocation.
type folded struct {
	b [32]byte
	n int
}

func (f *folded) bytes() []byte { return f.b[:f.n] }

// decoder reads definitions from JSON that is known to be valid. Its errors read
// like encoding/json's, which clients know.
type decoder struct{ lenient bool }

func (d decoder) service(raw json.RawMessage) (*ServiceDefinition, error) {
	s := &ServiceDefinition{}
	var single, list []*CheckDefinition
	err := d.object(raw, "ServiceDefinition", func(name string, raw json.RawMessage) (bool, error) {
		var err error
		f := fold(name)
		switch string(f.bytes()) {
		case "id":
			err = d.text(raw, &s.ID)
		case "name":
			err = d.text(raw, &s.Name)
		case "kind":
			err = d.text(raw, &s.Kind)
		case "tags":
			err = d.texts(raw, &s.Tags)
		case "address":
			err = d.text(raw, &s.Address)
		case "taggedaddresses":
			s.TaggedAddresses, err = d.addresses(raw)
		case "meta":
			s.Meta, err = d.textMap(raw)
		case "port":
			err = d.integer(raw, &s.Port)
		case "socketpath":
			err = d.text(raw, &s.SocketPath)
		case "enabletagoverride":
			err = d.boolean(raw, &s.EnableTagOverride)
		case "weights":
			s.Weights, err = d.weights(raw)
		case "token":
			err = d.text(raw, &s.Token)
		case "proxy":
			s.Proxy, err = d.block(raw)
		case "connect":
			s.Connect, err = d.block(raw)
		case "locality":
			s.Locality, err = d.block(raw)
		case "check":
			single, err = d.checks(raw, true)
		case "checks":
			list, err = d.checks(raw, false)
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	s.Checks = append(single, list...)
	return s, nil
}

// checks reads a check (one) or a list of checks inside a service.
func (d decoder) checks(raw json.RawMessage, one bool) ([]*CheckDefinition, error) {
	isList := kindOf(raw) == '['
	if !isList {
		if kindOf(raw) == 'n' {
			return nil, nil
		}
		if !one && !d.lenient {
			return nil, typeError(raw, "Checks", "[]*CheckDefinition")
		}
		c, err := d.check(raw, true)
		if err != nil {
			return nil, err
		}
		return []*CheckDefinition{c}, nil
	}
	if one && !d.lenient {
		return nil, typeError(raw, "Check", "CheckDefinition")
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	out := make([]*CheckDefinition, 0, len(items))
	for _, item := range items {
		if kindOf(item) == 'n' {
			continue
		}
		c, err := d.check(item, true)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// check reads one check. The id of a check of its own is ID, that of one inside
// a service CheckID (ID too, as files spell it).
func (d decoder) check(raw json.RawMessage, nested bool) (*CheckDefinition, error) {
	c := &CheckDefinition{}
	err := d.object(raw, "CheckDefinition", func(name string, raw json.RawMessage) (bool, error) {
		var err error
		f := fold(name)
		switch string(f.bytes()) {
		case "id":
			err = d.text(raw, &c.ID)
		case "checkid":
			if !nested && !d.lenient {
				return false, nil
			}
			err = d.text(raw, &c.ID)
		case "name":
			err = d.text(raw, &c.Name)
		case "serviceid":
			if nested {
				return false, nil
			}
			err = d.text(raw, &c.ServiceID)
		case "status":
			err = d.text(raw, &c.Status)
		case "notes":
			err = d.text(raw, &c.Notes)
		case "token":
			err = d.text(raw, &c.Token)
		case "interval":
			err = d.duration(raw, &c.Interval)
		case "timeout":
			err = d.duration(raw, &c.Timeout)
		case "ttl":
			err = d.duration(raw, &c.TTL)
		case "args", "scriptargs":
			err = d.texts(raw, &c.Args)
		case "dockercontainerid":
			err = d.text(raw, &c.DockerContainerID)
		case "shell":
			err = d.text(raw, &c.Shell)
		case "http":
			err = d.text(raw, &c.HTTP)
		case "method":
			err = d.text(raw, &c.Method)
		case "header":
			c.Header, err = d.header(raw)
		case "body":
			err = d.text(raw, &c.Body)
		case "disableredirects":
			err = d.boolean(raw, &c.DisableRedirects)
		case "tcp":
			err = d.text(raw, &c.TCP)
		case "tcpusetls":
			err = d.boolean(raw, &c.TCPUseTLS)
		case "udp":
			err = d.text(raw, &c.UDP)
		case "grpc":
			err = d.text(raw, &c.GRPC)
		case "grpcusetls":
			err = d.boolean(raw, &c.GRPCUseTLS)
		case "h2ping":
			err = d.text(raw, &c.H2PING)
		case "h2pingusetls":
			var v bool
			if err = d.boolean(raw, &v); err == nil && kindOf(raw) != 'n' {
				c.H2PingUseTLS = &v
			}
		case "tlsservername":
			err = d.text(raw, &c.TLSServerName)
		case "tlsskipverify":
			err = d.boolean(raw, &c.TLSSkipVerify)
		case "aliasnode":
			err = d.text(raw, &c.AliasNode)
		case "aliasservice":
			err = d.text(raw, &c.AliasService)
		case "osservice":
			err = d.text(raw, &c.OSService)
		case "outputmaxsize":
			err = d.integer(raw, &c.OutputMaxSize)
		case "successbeforepassing":
			err = d.integer(raw, &c.SuccessBeforePassing)
		case "failuresbeforewarning":
			err = d.integer(raw, &c.FailuresBeforeWarning)
		case "failuresbeforecritical":
			err = d.integer(raw, &c.FailuresBeforeCritical)
		case "deregistercriticalserviceafter":
			err = d.duration(raw, &c.DeregisterCriticalServiceAfter)
		default:
			return false, nil
		}
		return true, err
	})
	return c, err
}

// object calls member for each member of raw in the order written. A member it
// does not know is an error. null is an object without members.
func (d decoder) object(raw json.RawMessage, what string, member func(name string, raw json.RawMessage) (bool, error)) error {
	raw = bytes.TrimSpace(d.unwrap(raw))
	switch kindOf(raw) {
	case 'n':
		return nil
	case '{':
	default:
		return typeError(raw, what, what)
	}
	for i := skipSpace(raw, 1); raw[i] != '}'; {
		end := skipValue(raw, i)
		var name string
		if err := unquote(raw[i:end], &name); err != nil {
			return err
		}
		i = skipSpace(raw, skipSpace(raw, end)+1) // over the colon
		end = skipValue(raw, i)
		known, err := member(name, raw[i:end])
		if err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("json: unknown field %q", name)
		}
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return nil
}

// skipSpace returns where the next token of valid JSON begins.
func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r' {
		i++
	}
	return i
}

// skipValue returns where the value of valid JSON that begins at i ends.
func skipValue(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			} else if depth < 0 {
				return i // of a number or a word before it
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// unquote reads a string: most have no escapes.
func unquote(raw []byte, v *string) error {
	if raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
		*v = string(raw[1 : len(raw)-1])
		return nil
	}
	return json.Unmarshal(raw, v)
}

// unwrap takes the element out of a list of one, where that is allowed.
func (d decoder) unwrap(raw json.RawMessage) json.RawMessage {
	if !d.lenient || kindOf(raw) != '[' {
		return raw
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) == nil && len(items) == 1 {
		return items[0]
	}
	return raw
}

// scalar decodes into v by encoding/json's rules; a lenient decoder tries a
// string's text as JSON when that does not fit.
func (d decoder) scalar(raw json.RawMessage, v any) error {
	raw = d.unwrap(raw)
	err := json.Unmarshal(raw, v)
	if err == nil || !d.lenient {
		return err
	}
	var s string
	if json.Unmarshal(raw, &s) == nil && json.Unmarshal([]byte(strings.TrimSpace(s)), v) == nil {
		return nil
	}
	return err
}

func (d decoder) integer(raw json.RawMessage, v *int) error  { return d.scalar(raw, v) }
func (d decoder) boolean(raw json.RawMessage, v *bool) error { return d.scalar(raw, v) }

func (d decoder) text(raw json.RawMessage, v *string) error {
	raw = d.unwrap(raw)
	if d.lenient {
		switch k := kindOf(raw); {
		case k == 't', k == 'f', k == '0':
			*v = string(bytes.TrimSpace(raw))
			return nil
		}
	}
	return unquote(bytes.TrimSpace(raw), v)
}

func (d decoder) texts(raw json.RawMessage, v *[]string) error {
	if d.lenient && kindOf(raw) != '[' && kindOf(raw) != 'n' {
		var s string
		if err := d.text(raw, &s); err != nil {
			return err
		}
		*v = []string{s}
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return err
	}
	out := make([]string, len(items))
	for i, item := range items {
		if err := d.text(item, &out[i]); err != nil {
			return err
		}
	}
	if items != nil {
		*v = out
	}
	return nil
}

func (d decoder) textMap(raw json.RawMessage) (map[string]string, error) {
	var out map[string]string
	err := d.object(raw, "map[string]string", func(name string, raw json.RawMessage) (bool, error) {
		var s string
		err := d.text(raw, &s)
		if out == nil {
			out = make(map[string]string)
		}
		out[name] = s
		return true, err
	})
	return out, err
}

func (d decoder) header(raw json.RawMessage) (map[string][]string, error) {
	var out map[string][]string
	err := d.object(raw, "map[string][]string", func(name string, raw json.RawMessage) (bool, error) {
		var list []string
		err := d.texts(raw, &list)
		if out == nil {
			out = make(map[string][]string)
		}
		out[name] = list
		return true, err
	})
	return out, err
}

func (d decoder) addresses(raw json.RawMessage) (map[string]store.ServiceAddress, error) {
	var out map[string]store.ServiceAddress
	err := d.object(raw, "map[string]ServiceAddress", func(tag string, raw json.RawMessage) (bool, error) {
		var a store.ServiceAddress
		err := d.object(raw, "ServiceAddress", func(name string, raw json.RawMessage) (bool, error) {
			f := fold(name)
			switch string(f.bytes()) {
			case "address":
				return true, d.text(raw, &a.Address)
			case "port":
				return true, d.integer(raw, &a.Port)
			}
			return false, nil
		})
		if out == nil {
			out = make(map[string]store.ServiceAddress)
		}
		out[tag] = a
		return true, err
	})
	return out, err
}

func (d decoder) weights(raw json.RawMessage) (*store.Weights, error) {
	if kindOf(raw) == 'n' {
		return nil, nil
	}
	w := &store.Weights{}
	return w, d.object(raw, "Weights", func(name string, raw json.RawMessage) (bool, error) {
		f := fold(name)
		switch string(f.bytes()) {
		case "passing":
			return true, d.integer(raw, &w.Passing)
		case "warning":
			return true, d.integer(raw, &w.Warning)
		}
		return false, nil
	})
}

// block keeps an object as it was given, compacted.
func (d decoder) block(raw json.RawMessage) (json.RawMessage, error) {
	raw = d.unwrap(raw)
	switch kindOf(raw) {
	case 'n':
		return nil, nil
	case '{':
	default:
		return nil, typeError(raw, "", "map[string]interface {}")
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, raw); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// duration reads "10s", or a number of nanoseconds.
func (d decoder) duration(raw json.RawMessage, v *Duration) error {
	raw = d.unwrap(raw)
	switch kindOf(raw) {
	case 'n':
		return nil
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		if s == "" {
			return nil
		}
		p, err := time.ParseDuration(s)
		if err != nil {
			return err
		}
		*v = Duration(p)
		return nil
	case '0':
		f, err := strconv.ParseFloat(string(bytes.TrimSpace(raw)), 64)
		if err != nil {
			return err
		}
		if f != f || f > float64(1<<62) || f < -float64(1<<62) {
			return errors.New("time: invalid duration " + string(raw))
		}
		*v = Duration(f)
		return nil
	}
	return typeError(raw, "", "time.Duration")
}

// kindOf is the first character of a JSON value, '0' for any number.
func kindOf(raw json.RawMessage) byte {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return 0
	}
	if c := raw[0]; c != '-' && (c < '0' || c > '9') {
		return c
	}
	return '0'
}

func typeError(raw json.RawMessage, field, want string) error {
	names := map[byte]string{'"': "string", '{': "object", '[': "array", 't': "bool", 'f': "bool", '0': "number"}
	got := names[kindOf(raw)]
	if field == "" || field == want {
		return fmt.Errorf("json: cannot unmarshal %s into Go value of type %s", got, want)
	}
	return fmt.Errorf("json: cannot unmarshal %s into Go struct field ServiceDefinition.%s of type %s", got, field, want)
}
