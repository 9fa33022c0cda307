package filter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/go-bexpr/grammar"
)

const (
	// maxSteps bounds the parser for one group. No 16 KB take it more than 100 ms.
	maxSteps = 1_000_000
	// fewSteps bounds the second look at what is refused: 3 ms.
	fewSteps = 30_000
)

// parse reads an expression. The grammar's parser backtracks: each level of
// parentheses costs it four to five times the steps of the last, and an unmatched one
// all it has. So what stands in parentheses is read by itself, the innermost first,
// and a comparison that the text does not have stands for it in what is around it.
func parse(text string) (grammar.Expression, error) {
	e, err := grouped(text)
	if err == nil {
		return e, nil
	}
	// The place in the whole text is what a user looks for.
	if _, whole := grammar.Parse("", []byte(text), grammar.MaxExpressions(fewSteps)); whole != nil {
		if first, _, _ := strings.Cut(whole.Error(), "\n"); !strings.Contains(first, "max number of") {
			return nil, errors.New(first)
		}
	}
	return nil, err
}

func grouped(text string) (grammar.Expression, error) {
	var (
		name   = unused(text)
		groups []grammar.Expression
		levels = []*strings.Builder{new(strings.Builder)} // what is read of each open group
		quote  byte
	)
	for i := range len(text) {
		switch c := text[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '`':
			quote = c
		case c == '(':
			if i > 0 && !strings.ContainsRune(" \t\r\n(", rune(text[i-1])) {
				return nil, fmt.Errorf("1:%d (%d): no match found, an operator is missing before %q", i+1, i, "(")
			}
			levels = append(levels, new(strings.Builder))
			continue
		case c == ')':
			inner := levels[len(levels)-1]
			levels = levels[:len(levels)-1]
			if len(levels) == 0 {
				return nil, fmt.Errorf("1:%d (%d): no match found, unmatched parentheses", i+1, i)
			}
			if i+1 < len(text) && !strings.ContainsRune(" \t\r\n)", rune(text[i+1])) {
				return nil, fmt.Errorf("1:%d (%d): no match found, an operator is missing after %q", i+1, i, ")")
			}
			e, err := flat(inner.String(), name, groups)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(levels[len(levels)-1], "%s==%d", name, len(groups))
			groups = append(groups, e)
			continue
		}
		levels[len(levels)-1].WriteByte(text[i])
	}
	if len(levels) > 1 {
		return nil, fmt.Errorf("1:%d (%d): no match found, unmatched parentheses", len(text)+1, len(text))
	}
	return flat(levels[0].String(), name, groups)
}

// flat reads a text without parentheses and puts in the groups that it names.
func flat(text, name string, groups []grammar.Expression) (grammar.Expression, error) {
	ast, err := grammar.Parse("", []byte(text), grammar.MaxExpressions(maxSteps))
	if err != nil {
		return nil, err
	}
	e, ok := ast.(grammar.Expression)
	if !ok {
		return nil, fmt.Errorf("not an expression: %q", text)
	}
	return fill(e, name, groups), nil
}

func fill(e grammar.Expression, name string, groups []grammar.Expression) grammar.Expression {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		e.Operand = fill(e.Operand, name, groups)
	case *grammar.BinaryExpression:
		e.Left, e.Right = fill(e.Left, name, groups), fill(e.Right, name, groups)
	case *grammar.MatchExpression:
		if len(e.Selector.Path) == 1 && e.Selector.Path[0] == name && e.Value != nil {
			if i, err := strconv.Atoi(e.Value.Raw); err == nil {
				return groups[i]
			}
		}
	}
	return e
}

// unused is a name that does not occur in a text. There are more of three letters
// than a text has places.
func unused(text string) string {
	name := []byte("qqq")
	for i := 0; strings.Contains(text, string(name)); i++ {
		n := i
		for j := range name {
			name[j], n = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[n%52], n/52
		}
	}
	return string(name)
}
