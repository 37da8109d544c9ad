// Package deliver brings what the queue holds to its next hop: one attempt at
// a time for each message and destination, and a word for each recipient.
//
// The invariants: nothing leaves without a grant that is still given; nothing
// leaves for an address that only this machine or its neighbours should reach,
// unless the operator's own line names it; what a destination does, however
// long it takes, delays no other destination; and a delivery that failed for
// good is told to who sent it before the queue forgets it, or stays for the
// operator.
package deliver
