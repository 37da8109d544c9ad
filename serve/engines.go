package serve

import (
	"context"

	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/smtp"
)

// openQueue opens the embedded queue. run must be running while it is used.
func openQueue(dir string, s Settings, memory int64, report func(error)) (queue.Queue, func(context.Context) error, error) {
	size := s.Engine.MessageSize
	if size == 0 {
		size = smtp.DefaultLimits.MessageSize
	}
	// The trace field that we add is not the client's to count.
	q, err := pebble.Open(pebble.Options{Dir: dir, MaxSize: size + 64<<10, Memory: memory, Report: report})
	if err != nil {
		return nil, nil, err
	}
	return q, q.Run, nil
}

// openPast opens the history of a queue that no relay has open.
func openPast(dir string) (*pebble.Past, error) { return pebble.OpenPast(pebble.Options{Dir: dir}) }
