// Package pebble is the queue's embedded engine, on the key-value store of the
// same name.
//
// The invariant: a message is there if its record is, and its record is
// committed last, with a sync, in one batch with the last part of its body.
// What the library believes after a write or a sync failed is believed by
// nobody: the opening is thrown away and made again from the disk (fence.go).
//
// The keys, in one store:
//
//	f                format of the store, a number
//	m ID             record of a message (record.go)
//	b ID number      128 KiB of its body
//	p ID             a body is being written that needs more than one batch
//	x ID             what was found in place of a record that can be read
//	e ID number      what happened to a message that is in the queue (life.go)
//	h ID             life of a message that has left it
//	i DAY HASH ID    by what lives are found (history.go)
//
// Leases live in memory: their owner is in this process, and dies with it.
package pebble
