package filter

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/go-bexpr/grammar"

	"landbridge/store"
)

// maxLength bounds an expression; the longest we have seen used is under 1 KB.
const maxLength = 16 << 10

// Predicate says whether a row matches.
type Predicate[T any] func(T) bool

// Compile parses an expression and checks it against the schema. Errors are of
// KindInvalid, with the texts clients know.
func Compile[T any](expression string, s Schema[T]) (Predicate[T], error) {
	p, err := compile(expression, s)
	if err != nil {
		return nil, store.Errorf(store.KindInvalid, "Failed to create boolean expression evaluator: %w", err)
	}
	return p, nil
}

func compile[T any](expression string, s Schema[T]) (Predicate[T], error) {
	if len(expression) > maxLength {
		return nil, fmt.Errorf("expression of %d bytes is too long, at most %d", len(expression), maxLength)
	}
	e, err := parse(expression)
	if err != nil {
		return nil, err
	}
	return build(e, s)
}

func build[T any](e grammar.Expression, s Schema[T]) (func(T) bool, error) {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		inner, err := build(e.Operand, s)
		if err != nil {
			return nil, err
		}
		return func(row T) bool { return !inner(row) }, nil
	case *grammar.BinaryExpression:
		left, err := build(e.Left, s)
		if err != nil {
			return nil, err
		}
		right, err := build(e.Right, s)
		if err != nil {
			return nil, err
		}
		if e.Operator == grammar.BinaryOpAnd {
			return func(row T) bool { return left(row) && right(row) }, nil
		}
		return func(row T) bool { return left(row) || right(row) }, nil
	case *grammar.MatchExpression:
		m := match{sel: e.Selector.String(), op: e.Operator}
		if e.Value != nil {
			m.value = e.Value.Raw
		}
		if e.Selector.Type != grammar.SelectorTypeBexpr {
			return nil, problem("Selector %q is not valid", m.sel)
		}
		return leaf(s, e.Selector.Path, m)
	case *grammar.CollectionExpression:
		return nil, fmt.Errorf("no match found: %s over a collection is not part of this language", strings.ToLower(string(e.Op)))
	}
	return nil, fmt.Errorf("unknown expression %T", e)
}

// match is one comparison: the selector as written, the operator, the value.
type match struct {
	sel   string
	op    grammar.MatchOperator
	value string
}

func (m match) invalidOp() error {
	return problem("Invalid match operator %q for selector %q", m.op, m.sel)
}

// leaf finds the field a selector means and makes the function that compares it.
func leaf[T any](s Schema[T], path []string, m match) (func(T) bool, error) {
	name := ""
	for i, part := range path {
		if i > 0 {
			name += "."
		}
		name += part
		f, ok := s[name]
		if !ok {
			continue
		}
		rest := path[i+1:]
		switch {
		case f.rows != nil && len(rest) > 0:
			return f.rows.leaf(rest, m)
		case f.rows != nil:
			return emptiness(m, f.rows.length)
		case f.Map != nil && len(rest) == 1:
			return mapValue(m, f.Map, rest[0])
		case f.Map != nil && len(rest) == 0:
			return keys(m, func(row T) int { return len(f.Map(row)) },
				func(row T) bool { _, ok := f.Map(row)[m.value]; return ok })
		case f.Addrs != nil && len(rest) == 0:
			return keys(m, func(row T) int { return len(f.Addrs(row)) },
				func(row T) bool { _, ok := f.Addrs(row)[m.value]; return ok })
		case f.Addrs != nil && len(rest) == 2:
			return addressValue(m, f.Addrs, rest[0], rest[1])
		case len(rest) > 0:
			// A scalar has nothing below it.
		case f.Str != nil:
			test, err := stringTest(m)
			if err != nil {
				return nil, err
			}
			return func(row T) bool { return test(f.Str(row)) }, nil
		case f.Int != nil:
			test, err := intTest(m)
			if err != nil {
				return nil, err
			}
			return func(row T) bool { return test(f.Int(row)) }, nil
		case f.Bool != nil:
			test, err := boolTest(m)
			if err != nil {
				return nil, err
			}
			return func(row T) bool { return test(f.Bool(row)) }, nil
		case f.List != nil:
			return keys(m, func(row T) int { return len(f.List(row)) }, func(row T) bool {
				for _, v := range f.List(row) {
					if v == m.value {
						return true
					}
				}
				return false
			})
		}
	}
	return nil, problem("Selector %q is not valid", m.sel)
}

// problem is an error whose words clients match: they begin with a capital.
func problem(format string, args ...any) error { return fmt.Errorf(format, args...) }

// emptiness is for lists of rows, which can be tested for nothing else.
func emptiness[T any](m match, length func(T) int) (func(T) bool, error) {
	switch m.op {
	case grammar.MatchIsEmpty:
		return func(row T) bool { return length(row) == 0 }, nil
	case grammar.MatchIsNotEmpty:
		return func(row T) bool { return length(row) > 0 }, nil
	}
	return nil, m.invalidOp()
}

// keys is for lists of strings and the keys of maps.
func keys[T any](m match, length func(T) int, has func(T) bool) (func(T) bool, error) {
	switch m.op {
	case grammar.MatchIn, grammar.MatchContains:
		return has, nil
	case grammar.MatchNotIn, grammar.MatchNotContains:
		return func(row T) bool { return !has(row) }, nil
	}
	return emptiness(m, length)
}

// mapValue compares a map's value; a missing key equals and contains nothing.
func mapValue[T any](m match, get func(T) map[string]string, key string) (func(T) bool, error) {
	test, err := stringTest(m)
	if err != nil {
		return nil, err
	}
	absent := m.op.NotPresentDisposition()
	return func(row T) bool {
		v, ok := get(row)[key]
		if !ok {
			return absent
		}
		return test(v)
	}, nil
}

func addressValue[T any](m match, get func(T) map[string]store.ServiceAddress, key, member string) (func(T) bool, error) {
	var test func(store.ServiceAddress) bool
	switch member {
	case "Address":
		t, err := stringTest(m)
		if err != nil {
			return nil, err
		}
		test = func(a store.ServiceAddress) bool { return t(a.Address) }
	case "Port":
		t, err := intTest(m)
		if err != nil {
			return nil, err
		}
		test = func(a store.ServiceAddress) bool { return t(a.Port) }
	default:
		return nil, problem("Selector %q is not valid", m.sel)
	}
	absent := m.op.NotPresentDisposition()
	return func(row T) bool {
		a, ok := get(row)[key]
		if !ok {
			return absent
		}
		return test(a)
	}, nil
}

func stringTest(m match) (func(string) bool, error) {
	switch m.op {
	case grammar.MatchEqual:
		return func(v string) bool { return v == m.value }, nil
	case grammar.MatchNotEqual:
		return func(v string) bool { return v != m.value }, nil
	case grammar.MatchIn, grammar.MatchContains:
		return func(v string) bool { return strings.Contains(v, m.value) }, nil
	case grammar.MatchNotIn, grammar.MatchNotContains:
		return func(v string) bool { return !strings.Contains(v, m.value) }, nil
	case grammar.MatchMatches, grammar.MatchNotMatches:
		re, err := regexp.Compile(m.value)
		if err != nil {
			return nil, problem("Failed to compile regular expression %q: %w", m.value, err)
		}
		want := m.op == grammar.MatchMatches
		return func(v string) bool { return re.MatchString(v) == want }, nil
	}
	return nil, m.invalidOp()
}

func intTest(m match) (func(int) bool, error) {
	if m.op != grammar.MatchEqual && m.op != grammar.MatchNotEqual {
		return nil, m.invalidOp()
	}
	want, err := strconv.Atoi(m.value)
	if err != nil {
		return nil, problem("Selector %q is a number: %w", m.sel, err)
	}
	equal := m.op == grammar.MatchEqual
	return func(v int) bool { return (v == want) == equal }, nil
}

func boolTest(m match) (func(bool) bool, error) {
	if m.op != grammar.MatchEqual && m.op != grammar.MatchNotEqual {
		return nil, m.invalidOp()
	}
	want, err := strconv.ParseBool(m.value)
	if err != nil {
		return nil, problem("Selector %q is true or false: %w", m.sel, err)
	}
	equal := m.op == grammar.MatchEqual
	return func(v bool) bool { return (v == want) == equal }, nil
}
