package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
)

// engine opens the queues that the suite tests.
var engine = queuetest.Engine{Open: func(fs vfs.FS, dir string, o queuetest.Options) (queuetest.Queue, error) {
	q, err := pebble.Open(pebble.Options{Dir: dir, FS: fs, MaxSize: o.MaxSize, Usage: o.Usage, Report: o.Report})
	if err != nil {
		return nil, err
	}
	return whole{q}, nil
}}

type whole struct{ *pebble.Queue }

// Whole verifies the queue, and counts that of a message nothing is kept twice.
func (w whole) Whole(ctx context.Context) error {
	sum, err := w.Verify(ctx)
	if err == nil && sum.Corrupt > 0 {
		err = fmt.Errorf("%d records were moved aside", sum.Corrupt)
	}
	return errors.Join(append(sum.Faults, err)...)
}

func TestMain(m *testing.M) {
	queuetest.Main(engine)
	os.Exit(m.Run())
}

func TestSuite(t *testing.T) { queuetest.Run(t, engine) }
