package queue

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"
)

// crockford is the alphabet of ids: digits and capitals without I, L, O and U,
// which are misread (Crockford's base 32). Its order is that of ASCII, so ids
// sort as their times do.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ErrID is returned for what is no id.
var ErrID = errors.New("not the id of a message: 16 digits and capitals, without I, L, O and U")

// NewID returns a new id of a message: 16 characters of Crockford's base 32,
// 48 bits of Unix milliseconds and 32 bits of chance, so that ids made later
// sort later and two made in one millisecond differ.
func NewID() string { return newID(time.Now()) }

func newID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(b[6:10]) // it never fails: crypto/rand ends the program instead
	return written(b)
}

// written returns the first 80 bits of b.
func written(b [16]byte) string {
	var id [16]byte
	for i := range id {
		// Five bits from bit 5*i on; they lie in two bytes at most.
		at := 5 * i
		pair := uint16(b[at/8])<<8 | uint16(b[at/8+1])
		id[i] = crockford[pair>>(11-at%8)&31]
	}
	return string(id[:])
}

// FirstID returns the least id of a moment, to the millisecond: messages that
// were begun earlier have ids that are less.
func FirstID(at time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(min(max(at.UnixMilli(), 0), 1<<48-1))<<16)
	return written(b)
}

// ParseID checks that s is an id as NewID makes them, and returns it. Small
// letters and lookalikes are refused: an id names keys and log lines, and one
// message has one name.
func ParseID(s string) (string, error) {
	if len(s) != 16 {
		return "", ErrID
	}
	for i := range len(s) {
		if value(s[i]) < 0 {
			return "", ErrID
		}
	}
	return s, nil
}

// TimeOf returns the moment at which an id was made, to the millisecond; zero
// for what is no id.
func TimeOf(id string) time.Time {
	if _, err := ParseID(id); err != nil {
		return time.Time{}
	}
	var ms uint64
	for i := range 10 {
		ms = ms<<5 | uint64(value(id[i]))
	}
	return time.UnixMilli(int64(ms >> 2)) // 50 bits, of which 48 are the time's
}

func value(c byte) int {
	for i := range len(crockford) {
		if crockford[i] == c {
			return i
		}
	}
	return -1
}
