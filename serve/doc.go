// Package serve is the relay: it composes policy, guard, identity and queue,
// owns every goroutine of them, and proves itself closed before it opens a
// port and before it takes a new configuration.
//
// The invariant: a policy that was not proved, or under which a stranger's
// message came through in the self-audit, never comes into force.
package serve
