package forward

import (
	"context"
	"io"
	"os"
	"sync"
	"testing"
)

// A tunnel in which nothing passes holds two connections and nothing else, also after much passed.
func TestSpliceHoldsNothing(t *testing.T) {
	const tunnels = 50
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := descriptors()
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	for range tunnels {
		client, a := pair(t)
		b, server := pair(t)
		ended.Go(func() { _, _ = Splice(ctx, a, b, Limits{}) })
		const much = 1 << 20
		go func() { _, _ = client.Write(make([]byte, much)) }()
		if n, err := io.ReadFull(server, make([]byte, much)); err != nil {
			t.Fatalf("%d octets, %v", n, err)
		}
	}
	if got := descriptors() - before; got > 4*tunnels+2*cap(pipes) {
		t.Errorf("%d tunnels hold %d descriptors", tunnels, got)
	}
	cancel()
	ended.Wait()
}
