// Package filter evaluates the expressions of ?filter (spec http-common 9) on
// rows: go-bexpr's grammar, with selectors checked against a schema when the
// expression is compiled, and evaluation by plain functions instead of
// reflection.
//
// Why not go-bexpr's own evaluator: releases whose grammar builds today no
// longer validate selectors and operators up front, so that a wrong selector is
// only noticed on the first row, or never on an empty list. Clients match the
// texts of the validation.
//
// A compiled expression is immutable and safe for concurrent use. Compiling is
// bounded: long expressions and those that make the parser backtrack beyond a
// limit are refused.
package filter
