package pebble

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"postern/internal/queue"
)

var buffers = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// Put implements queue.Intake. A body of one chunk is one batch with its
// record. A longer one is written while it comes in; until its record is
// committed a mark says that it is not a message, and who finds the mark at a
// start removes it with all that was written.
func (q *Queue) Put(ctx context.Context, l queue.Letter, body io.Reader) (int64, error) {
	m, err := queue.New(l)
	if err != nil {
		return 0, err
	}
	if m.Origin.At.IsZero() {
		m.Origin.At = time.Now()
	}
	p := &put{q: q, key: keyOf(m.ID), record: record{Message: m}, room: q.Room}
	if m.Strangers() {
		p.room = q.Spare
	}
	if err := p.room(m.Params.Size); err != nil {
		return 0, err
	}
	if err := q.begin(p.key); err != nil {
		return 0, err
	}
	err = p.store(ctx, body)
	q.finish(p, err)
	return p.record.Size, err
}

// begin keeps an id for one Put.
func (q *Queue) begin(k key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.x.entries[k] != nil || q.storing[k] || q.undo[k] {
		return queue.ErrTwice
	}
	q.storing[k] = true
	return nil
}

func (q *Queue) finish(p *put, err error) {
	if err != nil && p.record.chunks > 0 {
		p.abandon()
	}
	q.mu.Lock()
	delete(q.storing, p.key)
	woke := false
	if err == nil {
		woke = q.x.put(&p.record.Message)
	}
	q.mu.Unlock()
	if woke {
		q.wake()
	}
}

// A put is one Put on its way.
type put struct {
	q      *Queue
	key    key
	record record
	in     *store // the opening that all of it must go to
	room   func(size int64) error
}

func (p *put) store(ctx context.Context, body io.Reader) error {
	buf, _ := buffers.Get().(*[chunkSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := fill(body, buf[:])
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return err
		}
		p.record.Size += int64(n)
		p.record.sum = crc32.Update(p.record.sum, castagnoli, buf[:n])
		if p.q.o.MaxSize > 0 && p.record.Size > p.q.o.MaxSize {
			return queue.ErrTooLarge
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if !last {
			if err := p.room(chunkSize); err != nil {
				return err
			}
		}
		if err := p.write(buf[:n], last); err != nil || last {
			return err
		}
	}
}

// fill reads until buf is full. io.EOF says that this was the end; any other
// error is the reader's own: io.ReadFull would make a cut connection and the
// end of a message the same.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

func (p *put) write(chunk []byte, last bool) error {
	s, done, err := p.q.use()
	if err != nil {
		return err
	}
	defer done()
	if p.in == nil {
		p.in = s
	}
	if p.in != s {
		// What was written before may not be on the disk that was opened since.
		return broken(errors.New("the store was opened again while a message came in"))
	}
	b := s.db.NewBatchWithSize(len(chunk) + 1024)
	if len(chunk) > 0 {
		err = b.Set(p.key.chunk(p.record.chunks), chunk, nil)
		p.record.chunks++
	}
	switch {
	case !last && p.record.chunks == 1:
		err = errors.Join(err, b.Set(p.key.at(partKey), nil, nil))
	case last && (p.record.chunks > 1 || len(chunk) == 0 && p.record.chunks == 1):
		err = errors.Join(err, b.Delete(p.key.at(partKey), nil))
	}
	if last {
		if p.record.Hold != "" {
			err = errors.Join(err, p.record.enter(b, []queue.Event{{At: p.record.Origin.At, Kind: queue.WasHeld, Note: p.record.Hold}}))
		}
		err = errors.Join(err, b.Set(p.key.at(messageKey), p.record.appendTo(nil), nil))
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err = s.commit(b, last); err != nil && last {
		// It may be on the disk or not. The client hears no, so the next opening,
		// which waits for us here, removes it if it is.
		p.q.mu.Lock()
		p.q.undo[p.key] = true
		p.q.mu.Unlock()
	}
	return err
}

// abandon removes what was written of a body that did not become a message. If
// it cannot, the next opening does.
func (p *put) abandon() {
	s, done, err := p.q.use()
	if err != nil {
		return
	}
	defer done()
	if s != p.in {
		return
	}
	b := s.db.NewBatch()
	for n := range p.record.chunks {
		err = errors.Join(err, b.Delete(p.key.chunk(n), nil))
	}
	if err = errors.Join(err, b.Delete(p.key.at(partKey), nil)); err == nil {
		err = s.commit(b, false)
	}
	if err != nil {
		p.q.o.Report(err)
	}
}
