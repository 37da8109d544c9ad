// Package policy decides who may send what to whom. A Policy is compiled from
// a Source, is immutable, and answers from values alone: no DNS, clock, disk
// or chance takes part.
//
// The invariant: a message can be accepted only with a Grant, only Decide and
// Renew make one, and they make it for three reasons: an identity that logged
// in and may use this reverse-path; a trusted client, named narrowly; a
// recipient of a domain that is ours. Everything else is a Refusal. Because
// the inputs fall into finitely many classes, Prove can try them all.
package policy
