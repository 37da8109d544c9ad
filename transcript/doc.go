// Package transcript keeps one conversation: every byte that passed, its
// direction and its time. It prints like swaks, so that a person can read it,
// and as JSON, so that nothing is lost.
//
// A transcript never holds a credential: what a client sends in an AUTH
// exchange is replaced before it is stored. And it is bounded: what a peer
// sends beyond the limit is counted, not kept.
package transcript
