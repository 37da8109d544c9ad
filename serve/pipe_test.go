package serve

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("192.0.2.1:25"))
		if a.RemoteAddr().String() != "192.0.2.1:25" || b.RemoteAddr().String() != "198.51.100.7:40000" {
			t.Errorf("addresses: %s, %s", a.RemoteAddr(), b.RemoteAddr())
		}
		if _, err := a.Write([]byte("one two")); err != nil { // nobody reads yet
			t.Fatal(err)
		}
		buf := make([]byte, 3)
		if n, err := b.Read(buf); err != nil || string(buf[:n]) != "one" {
			t.Errorf("read %q, %v", buf[:n], err)
		}
		began := time.Now()
		_ = a.SetReadDeadline(began.Add(time.Minute))
		if _, err := a.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		go func() { // a deadline in the past wakes who waits
			time.Sleep(time.Second)
			_ = a.SetReadDeadline(time.Unix(1, 0))
		}()
		_ = a.SetReadDeadline(time.Time{})
		if _, err := a.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("moved deadline: %v", err)
		}
		_ = a.Close()
		if rest, err := io.ReadAll(b); err != nil || string(rest) != " two" {
			t.Errorf("after close: %q, %v", rest, err)
		}
		if _, err := b.Write([]byte("x")); err == nil {
			t.Error("a closed pipe took a write")
		}
	})
}
