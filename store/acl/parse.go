package acl

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/scanner"
	"github.com/hashicorp/hcl/hcl/token"
	jsonscanner "github.com/hashicorp/hcl/json/scanner"
	jsontoken "github.com/hashicorp/hcl/json/token"

	"landbridge/store"
)

// Bounds of the text of one policy. The parser recurses as deep as the text nests.
const (
	MaxRules = 512 << 10
	maxDepth = 64
)

// Rules are the rules of one policy.
type Rules struct {
	labelled []rule
	scalars  [resources]level // of the resources without names
}

type rule struct {
	resource Resource
	prefix   bool
	label    string
	level    level
}

// Parse reads the rules of a policy, HCL or JSON. Words that it does not know are
// ignored, as clients expect; blocks that would restrict or move what the known
// ones grant are refused. The empty text grants nothing.
func Parse(text string) (*Rules, error) {
	raw, err := decode(text)
	if err != nil {
		return nil, store.Errorf(store.KindInvalid, "Failed to parse ACL rules: %w", err)
	}
	r := new(Rules)
	for _, word := range sortedWords(raw) {
		if err := r.add(word, raw[word]); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func decode(text string) (raw map[string]any, err error) {
	if len(text) > MaxRules {
		return nil, fmt.Errorf("the text has %d bytes, at most %d are allowed", len(text), MaxRules)
	}
	// The text is a user's: what the parser was not written for must not stop a server.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the text cannot be read: %v", p)
		}
	}()
	if err := shape(text); err != nil {
		return nil, err
	}
	if err := hcl.Decode(&raw, text); err != nil {
		return nil, err
	}
	return raw, nil
}

// shape refuses text that the parser would take too long for, or would take for whole
// though its end is missing. It scans as the parser does: what stands in comments
// and strings opens nothing.
func shape(text string) error {
	deepest, open, labels := 0, 0, 0
	count := func(by int) {
		open += by
		labels = 0
		deepest = max(deepest, open)
	}
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		s := scanner.New([]byte(text))
		s.Error = func(token.Pos, string) {} // the parser tells
		for t := s.Scan(); t.Type != token.EOF && deepest <= maxDepth; t = s.Scan() {
			switch t.Type {
			case token.LBRACE, token.LBRACK:
				count(1)
			case token.RBRACE, token.RBRACK:
				count(-1)
			case token.IDENT, token.STRING: // each label is one more block to the parser
				labels++
				deepest = max(deepest, open+labels)
			case token.COMMENT:
			default:
				labels = 0
			}
		}
		open = 0 // the parser finds what HCL leaves open
	} else {
		s := jsonscanner.New([]byte(text))
		s.Error = func(jsontoken.Pos, string) {}
		for t := s.Scan(); t.Type != jsontoken.EOF && deepest <= maxDepth; t = s.Scan() {
			switch t.Type {
			case jsontoken.LBRACE, jsontoken.LBRACK:
				count(1)
			case jsontoken.RBRACE, jsontoken.RBRACK:
				count(-1)
			}
		}
	}
	switch {
	case deepest > maxDepth:
		return fmt.Errorf("blocks are nested deeper than %d", maxDepth)
	case open > 0:
		return errors.New("object expected closing RBRACE got: EOF")
	}
	return nil
}

func sortedWords(m map[string]any) []string {
	words := make([]string, 0, len(m))
	for w := range m {
		words = append(words, w)
	}
	slices.Sort(words) // the same mistake is reported every time
	return words
}

// add takes one top-level word with all that is said under it. Words count whatever
// their case, as HCL has it: a KEY that denies must not be one that is not known.
func (r *Rules) add(word string, v any) error {
	switch word = strings.ToLower(word); word {
	case "partition", "partition_prefix", "namespace", "namespace_prefix":
		return store.Errorf(store.KindInvalid, "Failed to parse ACL rules: %q: namespaces and partitions are not part of this interface", word)
	case "operator", "keyring", "acl", "mesh", "peering":
		return r.addScalar(word, v)
	}
	base, prefix := strings.CutSuffix(word, "_prefix")
	res := Resource(slices.Index(resourceWords[:named], base))
	if res >= named || res == Intention {
		return nil
	}
	return each(v, func(blocks map[string]any) error {
		if blocks == nil {
			return invalid(word, "%v: a block with a label is expected", v)
		}
		for _, label := range sortedWords(blocks) {
			if err := r.addBlocks(word, res, prefix, label, blocks[label]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *Rules) addScalar(word string, v any) error {
	s, ok := v.(string)
	l, known := parseLevel(s)
	if !ok || !known || l == list {
		return invalid(word, "%s", quoted(v))
	}
	res, err := ParseResource(word)
	if err != nil {
		return err
	}
	r.scalars[res] = r.scalars[res].merge(l)
	return nil
}

func (r *Rules) addBlocks(word string, res Resource, prefix bool, label string, v any) error {
	if res.folds() {
		label = strings.ToLower(label)
	}
	return each(v, func(block map[string]any) error {
		if block == nil {
			return invalid(word, "%q: it is not a block", label)
		}
		given := make(map[string]any)
		for field, v := range block {
			field = strings.ToLower(field)
			if _, ok := given[field]; ok {
				return invalid(word, "%q: %s is there twice", label, field)
			}
			given[field] = v
		}
		if _, ok := given["sentinel"]; ok {
			return invalid(word, "%q: sentinel blocks are not part of this interface", label)
		}
		policy, ok := given["policy"]
		if !ok {
			return invalid(word, "%q: there is no policy", label)
		}
		s, _ := policy.(string)
		l, ok := parseLevel(s)
		if !ok || l == list && res != Key {
			return invalid(word, "%s on %q", quoted(policy), label)
		}
		r.labelled = append(r.labelled, rule{res, prefix, label, l})
		if res != Service {
			return nil
		}
		l = min(l, read) // what who may use or be the service may do
		if intentions, ok := given["intentions"]; ok {
			s, _ := intentions.(string)
			if l, ok = parseLevel(s); !ok || l == list {
				return invalid(word, "intentions %s on %q", quoted(intentions), label)
			}
		}
		r.labelled = append(r.labelled, rule{Intention, prefix, label, l})
		return nil
	})
}

// each calls f with every object that stands for a word: the parser makes lists
// of what may be repeated. Anything but an object is passed as nil.
func each(v any, f func(map[string]any) error) error {
	switch v := v.(type) {
	case map[string]any:
		return f(v)
	case []map[string]any:
		for _, m := range v {
			if err := f(m); err != nil {
				return err
			}
		}
		return nil
	case []any:
		for _, e := range v {
			if err := each(e, f); err != nil {
				return err
			}
		}
		return nil
	}
	return f(nil)
}

func invalid(word, format string, args ...any) error {
	return store.Errorf(store.KindInvalid, "Invalid %s policy: "+format, append([]any{word}, args...)...)
}

// quoted shows a value that should have been a word.
func quoted(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%v", v)
}
