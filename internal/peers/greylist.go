package peers

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// greylistDelay is how long a new triple has to wait. Postgrey's default is five minutes; what a
// test needs is only that the first try is refused and one that is soon enough is not.
const greylistDelay = 4 * time.Second

// greylist serves Postfix's policy delegation protocol on a socket: a triple of client, sender and
// recipient that was not seen before is deferred, as Postgrey does.
func greylist(ctx context.Context, tb testing.TB, path string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return err
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[string]time.Time{}
	)
	decide := func(request map[string]string) string {
		mu.Lock()
		defer mu.Unlock()
		triple := request["client_address"] + " " + request["sender"] + " " + request["recipient"]
		first, ok := seen[triple]
		if !ok {
			first = time.Now()
			seen[triple] = first
		}
		if wait := greylistDelay - time.Since(first); wait > 0 {
			return fmt.Sprintf("DEFER_IF_PERMIT Greylisted, come again in %d seconds", wait/time.Second+1)
		}
		return "DUNNO"
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { answer(c, decide) })
			// Postfix keeps its connections; they end with the test.
			context.AfterFunc(tb.Context(), func() { c.Close() })
		}
	})
	tb.Cleanup(func() { l.Close(); wg.Wait() })
	return os.Chmod(path, 0o666)
}

// answer reads requests, which are lines of name=value up to an empty one, and answers each.
func answer(c net.Conn, decide func(map[string]string) string) {
	defer c.Close()
	request := map[string]string{}
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			request[name] = value
			continue
		}
		if _, err := fmt.Fprintf(c, "action=%s\n\n", decide(request)); err != nil {
			return
		}
		clear(request)
	}
}
