package probe

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"postern/transcript"
)

// The wait for a greeting behind a proxy's own words is over with the greeting:
// what the mail server says later may come as late as it likes.
func TestPrefaceWaitsForTheGreetingAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		c := &preface{Conn: near, rec: &transcript.Transcript{}}
		go func() {
			for _, said := range []string{"a page\r\n", "220 mx\r\n", "250 ok\r\n"} {
				_, _ = io.WriteString(far, said)
				time.Sleep(patiencePage - time.Second)
			}
			time.Sleep(patiencePage)
			_, _ = io.WriteString(far, "221 bye\r\n")
			far.Close()
		}()
		if all, err := io.ReadAll(c); err != nil || string(all) != "220 mx\r\n250 ok\r\n221 bye\r\n" {
			t.Errorf("%q, %v", all, err)
		}
	})
}
