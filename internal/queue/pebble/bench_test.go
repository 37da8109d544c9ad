package pebble_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
)

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func onDisk(b *testing.B, dir string) *pebble.Queue {
	b.Helper()
	q, err := pebble.Open(pebble.Options{Dir: dir, Report: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	return q
}

func shut(b *testing.B, q *pebble.Queue) {
	if err := q.Close(); err != nil {
		b.Error(err)
	}
}

// together does b.N times what do does, by n at once.
func together(b *testing.B, n int, do func()) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	used := cpu(b)
	b.ResetTimer()
	for range n {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				do()
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(cpu(b)-used)/float64(b.N)/1e3, "cpu-µs/message")
}

// BenchmarkPut is what a client waits for before 250, the sync included.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct{ size, producers int }{{4 << 10, 1}, {4 << 10, 16}, {4 << 10, 64}, {4 << 10, 256}, {1 << 20, 1}, {1 << 20, 16}} {
		b.Run(fmt.Sprintf("size=%d/producers=%d", c.size, c.producers), func(b *testing.B) {
			q := onDisk(b, b.TempDir()+"/queue")
			defer shut(b, q)
			text := queuetest.Text(1, c.size)
			letter := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
			b.SetBytes(int64(c.size))
			together(b, c.producers, func() {
				l := letter
				l.ID = queue.NewID()
				if _, err := q.Put(context.Background(), l, bytes.NewReader(text)); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

// BenchmarkThrough is a message's whole way: put, leased, read, settled.
func BenchmarkThrough(b *testing.B) {
	for _, n := range []int{16, 64, 256} {
		b.Run(fmt.Sprintf("sessions=%d", n), func(b *testing.B) {
			q := onDisk(b, b.TempDir()+"/queue")
			defer shut(b, q)
			text := queuetest.Text(1, 4<<10)
			letter := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
			ctx := context.Background()
			together(b, n, func() {
				l := letter
				l.ID = queue.NewID()
				if _, err := q.Put(ctx, l, bytes.NewReader(text)); err != nil {
					b.Error(err)
				}
				list, err := q.Lease(ctx, queue.Ask{Owner: "b", Now: noon, Until: noon.Add(time.Hour), Max: 1})
				if err != nil || len(list) != 1 {
					b.Error(len(list), err)
					return
				}
				body, err := q.Open(ctx, list[0].Message.ID)
				if err == nil {
					_, err = bytes.NewBuffer(make([]byte, 0, 5<<10)).ReadFrom(body)
				}
				if err != nil {
					b.Error(err)
				}
				if _, err := q.Settle(ctx, list[0], queue.Outcome{Which: list[0].Which[0], State: queue.Delivered}); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

// BenchmarkStart opens a queue of POSTERN_DEFERRED messages (by default 20,000;
// a million takes a minute to make) to 10,000 destinations, and shows its first
// page. Memory is what the index holds when all is read.
func BenchmarkStart(b *testing.B) {
	n := 20_000
	if s := os.Getenv("POSTERN_DEFERRED"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir() + "/queue"
	fill(b, dir, n)
	var list, used time.Duration
	for b.Loop() {
		b.StopTimer()
		before, start := heap(), cpu(b)
		b.StartTimer()
		q := onDisk(b, dir)
		b.StopTimer()
		used += cpu(b) - start
		b.ReportMetric(float64(heap()-before)/float64(n), "octets/message")
		asked := time.Now()
		page, next, err := q.List(b.Context(), queue.Filter{}, queue.Page{})
		list += time.Since(asked)
		if err != nil || len(page) != 100 || next == "" {
			b.Fatal(len(page), err)
		}
		if s, err := q.Stats(b.Context()); err != nil || s.Messages[queue.Deferred] != n {
			b.Fatal(s, err)
		}
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(used)/float64(b.N*n)/1e3, "cpu-µs/message")
	b.ReportMetric(float64(list.Microseconds())/float64(b.N), "µs/first-page")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// fill puts n messages and defers each once.
func fill(b *testing.B, dir string, n int) {
	q := onDisk(b, dir)
	defer shut(b, q)
	text := queuetest.Text(1, 4<<10)
	var letters []queue.Letter
	for i := range 10_000 {
		letters = append(letters, queuetest.NewLetter(noon, "<a@ours.example>", fmt.Sprintf("<b@d%d.example>", i)))
	}
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for i := left.Add(-1); i >= 0; i = left.Add(-1) {
				l := letters[i%int64(len(letters))]
				l.ID = queue.NewID()
				if _, err := q.Put(context.Background(), l, bytes.NewReader(text)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	for {
		list, err := q.Lease(b.Context(), queue.Ask{Owner: "b", Now: noon, Until: noon.Add(time.Minute), Max: 1000})
		if err != nil {
			b.Fatal(err)
		}
		if len(list) == 0 {
			return
		}
		for i, l := range list {
			o := queue.Outcome{Which: l.Which[0], State: queue.Waiting, At: noon, Next: noon.Add(time.Duration(i) * time.Second).Add(time.Hour), Note: "connect to mx.far.example: connection refused"}
			if _, err := q.Settle(b.Context(), l, o); err != nil {
				b.Fatal(err)
			}
		}
	}
}
