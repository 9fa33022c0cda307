package logs

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// entry is one record, ready to be written in either form.
type entry struct {
	time      time.Time
	level     slog.Level
	component string
	message   string
	attrs     []attr
}

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "TRACE"
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARN"
	}
	return "ERROR"
}

// append adds the line, its newline included.
func (e *entry) append(b []byte, asJSON bool) []byte {
	if asJSON {
		return e.appendJSON(b)
	}
	if !e.time.IsZero() {
		b = e.time.UTC().AppendFormat(b, timeLayout)
		b = append(b, ' ')
	}
	b = append(b, '[')
	name := levelName(e.level)
	b = append(b, name...)
	b = append(b, ']', ' ')
	if len(name) == 4 { // padded, so that messages stand below each other
		b = append(b, ' ')
	}
	return e.appendBody(b)
}

// appendBody adds what follows time and level, and the newline.
func (e *entry) appendBody(b []byte) []byte {
	if e.component != "" {
		b = appendText(b, e.component, false)
		b = append(b, ": "...)
	}
	b = appendText(b, e.message, false)
	if len(e.attrs) > 0 {
		b = append(b, ':')
	}
	for _, a := range e.attrs {
		b = append(b, ' ')
		b = appendText(b, a.key, true)
		b = append(b, '=')
		b = appendText(b, text(a.value), true)
	}
	return append(b, '\n')
}

func (e *entry) appendJSON(b []byte) []byte {
	b = append(b, `{"@level":"`...)
	b = appendLower(b, levelName(e.level))
	b = append(b, `","@message":`...)
	b = appendJSONString(b, e.message)
	if e.component != "" {
		b = append(b, `,"@module":`...)
		b = appendJSONString(b, e.component)
	}
	if !e.time.IsZero() {
		b = append(b, `,"@timestamp":"`...)
		b = e.time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
		b = append(b, '"')
	}
	for _, a := range e.attrs {
		b = append(b, ',')
		b = appendJSONString(b, a.key)
		b = append(b, ':')
		b = appendJSONValue(b, a.value)
	}
	return append(b, '}', '\n')
}

func appendLower(b []byte, s string) []byte {
	for i := range len(s) {
		b = append(b, s[i]|0x20)
	}
	return b
}

// text is a value as people read it.
func text(v slog.Value) string {
	switch v.Kind() {
	case slog.KindString:
		return v.String()
	case slog.KindTime:
		return v.Time().UTC().Format(timeLayout)
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return safely(x.Error)
		case fmt.Stringer:
			return safely(x.String)
		case []byte:
			return string(x)
		}
		return fmt.Sprintf("%v", v.Any())
	}
	return v.String()
}

// safely calls a method that may panic on a nil receiver: a log line is not
// worth a process.
func safely(f func() string) (s string) {
	defer func() {
		if recover() != nil {
			s = "<nil>"
		}
	}()
	return f()
}

func appendJSONValue(b []byte, v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindFloat64:
		if j, err := json.Marshal(v.Float64()); err == nil {
			return append(b, j...)
		}
	}
	return appendJSONString(b, text(v))
}

func appendJSONString(b []byte, s string) []byte {
	j, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...)
	}
	return append(b, j...)
}

// appendText adds s, quoted if it could be misread: a line is one line whatever
// strangers put into names. Values are also quoted for blanks and equal signs.
func appendText(b []byte, s string, value bool) []byte {
	quote := value && s == ""
	for i := 0; i < len(s) && !quote; {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			quote = true
		case value && (r == ' ' || r == '=' || r == '"'):
			quote = true
		}
		i += n
	}
	if quote {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}
