package pebble

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
)

// Open implements queue.Desk. The body is read piece by piece, also over an
// opening of the store in between; it ends with queue.ErrNoSuchID if the
// message is deleted meanwhile.
func (q *Queue) Open(_ context.Context, id string) (io.ReadCloser, error) {
	s, done, err := q.use()
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := q.record(s, keyOf(id))
	if err != nil {
		return nil, err
	}
	return &body{q: q, key: keyOf(id), left: r.chunks, size: r.Size, sum: r.sum}, nil
}

// A body is a message's body being read.
type body struct {
	q       *Queue
	key     key
	at      uint64 // the next chunk
	left    uint64
	size    int64
	sum     uint32
	read    int64
	summed  uint32
	pending []byte
	err     error
}

var errBody = errors.New("the body is not what was stored")

func (b *body) Read(p []byte) (int, error) {
	for len(b.pending) == 0 && b.err == nil {
		b.err = b.next()
	}
	if b.err != nil {
		return 0, b.err
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
}

// WriteTo writes what is left without another copy.
func (b *body) WriteTo(w io.Writer) (total int64, err error) {
	for {
		n, err := w.Write(b.pending)
		total += int64(n)
		if err != nil {
			return total, err
		}
		b.pending = nil                        // before next, which fills it
		if b.err = b.next(); b.err == io.EOF { //nolint:errorlint // next returns it bare
			return total, nil
		}
		if b.err != nil {
			return total, b.err
		}
	}
}

// next reads one chunk, or says how the body ends.
func (b *body) next() error {
	if b.err != nil {
		return b.err
	}
	if b.left == 0 {
		if b.read != b.size || b.summed != b.sum {
			return errBody
		}
		return io.EOF
	}
	s, done, err := b.q.use()
	if err != nil {
		return err
	}
	defer done()
	v, ok, err := s.get(b.key.chunk(b.at))
	if err != nil {
		return err
	}
	if !ok {
		if _, err := s.record(b.key); err != nil {
			return err
		}
		return errBody
	}
	b.at++
	b.left--
	b.read += int64(len(v))
	b.summed = crc32.Update(b.summed, castagnoli, v)
	b.pending = v
	return nil
}

func (b *body) Close() error {
	b.pending, b.err = nil, errors.New("the body is closed")
	return nil
}
