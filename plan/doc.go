// Package plan says what a probe does: the forms (one envelope trick each),
// what they need to know of a target, and the token that each one carries.
// Everything here is a value or a pure function; the wire is package probe's.
package plan
