// Package acl is the policy language and the decisions made with it: rules are
// parsed once, the rules of all policies of a token are compiled once into an
// Authorizer, and a decision after that is a few look-ups that allocate nothing.
//
//	Parse(text) -> *Rules, one per policy
//	Compile(defaults, rules...) -> *Authorizer, one per token
//	Authorizer.Can(Key, "a/b", Write)
//
// Precedence (spec acl-rules 2): a rule for exactly the name, else the rule with
// the longest prefix of it, else the default. Where several rules of the policies
// say something about the same name or prefix, deny wins over everything, and
// otherwise the most permissive one does.
//
// Names of nodes, services and prepared queries are the same in whatever case, as
// they are where they are kept: a rule that denies "db" is not evaded by asking
// for "DB".
//
// The default policy never grants the resource acl: with default_policy "allow"
// anybody could read the secrets of all tokens.
//
// Everything here is pure: no clock, no state, no I/O. Rules and Authorizers are
// immutable and may be used concurrently. Which policies a token has, and whether
// it is still good, is outside (forwarding/endpoint on servers, federation/node on
// client agents).
package acl
