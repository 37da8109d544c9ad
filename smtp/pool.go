package smtp

import "sync"

// A connection holds a small buffer while it is busy and none while it idles,
// so that thousands of idle clients cost little; a long message or line gets a
// large one, because at 4 KB a read the system calls would cost more than the
// scan.
const (
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

func getBuffer(size int) []byte {
	if size == largeBuffer {
		if b, ok := largeBuffers.Get().(*[largeBuffer]byte); ok {
			return b[:]
		}
		return make([]byte, largeBuffer)
	}
	if b, ok := smallBuffers.Get().(*[smallBuffer]byte); ok {
		return b[:]
	}
	return make([]byte, smallBuffer)
}

func putBuffer(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}
