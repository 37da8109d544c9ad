// Package guard is the side of those who hold a grant: at each door it asks
// the policy and hands on only what carries one. It reads no disk and asks no
// DNS; whoever composes it gives it the policy in force, an intake, and the
// ways to check a login and a mailbox.
//
// The invariant: nothing reaches the intake but a Letter whose every recipient
// was granted by the policy for this very client and reverse-path.
package guard
