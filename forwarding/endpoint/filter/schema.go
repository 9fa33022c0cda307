package filter

import "landbridge/store"

// Schema names what can be selected in a row of type T. A key is a dotted path
// ("Node.Meta"); the part of a selector beyond it is a map key.
type Schema[T any] map[string]Field[T]

// Field reads one selectable value; exactly one of its functions is set. Which
// one decides the operators it takes.
type Field[T any] struct {
	Str   func(T) string                          // == != in contains matches
	Int   func(T) int                             // == !=
	Bool  func(T) bool                            // == !=
	List  func(T) []string                        // in contains, is empty
	Map   func(T) map[string]string               // in contains, is empty; .key as a string
	Addrs func(T) map[string]store.ServiceAddress // the same; .key.Address and .key.Port
	rows  *rows[T]
}

// rows is a list of other rows: true if it is true for any of them.
type rows[T any] struct {
	length func(T) int
	leaf   func(path []string, m match) (func(T) bool, error)
}

// Rows makes a field of a list of rows that have a schema of their own.
func Rows[T, E any](s Schema[E], get func(T) []E) Field[T] {
	return Field[T]{rows: &rows[T]{
		length: func(row T) int { return len(get(row)) },
		leaf: func(path []string, m match) (func(T) bool, error) {
			inner, err := leaf(s, path, m)
			if err != nil {
				return nil, err
			}
			return func(row T) bool {
				for _, e := range get(row) {
					if inner(e) {
						return true
					}
				}
				return false
			}, nil
		},
	}}
}

// Embed adds the fields of a part of the row under a prefix ("Node.").
func Embed[T, E any](dst Schema[T], prefix string, src Schema[E], get func(T) E) {
	for name, f := range src {
		var g Field[T]
		switch {
		case f.Str != nil:
			g.Str = func(row T) string { return f.Str(get(row)) }
		case f.Int != nil:
			g.Int = func(row T) int { return f.Int(get(row)) }
		case f.Bool != nil:
			g.Bool = func(row T) bool { return f.Bool(get(row)) }
		case f.List != nil:
			g.List = func(row T) []string { return f.List(get(row)) }
		case f.Map != nil:
			g.Map = func(row T) map[string]string { return f.Map(get(row)) }
		case f.Addrs != nil:
			g.Addrs = func(row T) map[string]store.ServiceAddress { return f.Addrs(get(row)) }
		default:
			continue // lists of rows are not nested in any schema of ours
		}
		dst[prefix+name] = g
	}
}
