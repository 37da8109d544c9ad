package peers

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestLead(t *testing.T) {
	Require(t)
	for _, c := range Cases {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			target := Start(t, c)
			args := []string{os.Getenv("LEAD_POSTERN"), "check", c.Address(), "--i-own", "--domain", Domain, "--collector", Collector, "--collector-listen", "192.0.2.66:25", "--zone", Collector, "--zone-listen", "192.0.2.66:53", "--collector-address", "192.0.2.66", "--resolver", "192.0.2.66:53", "--wait", "20s", "--relay-domain", Partner}
			args = append(args, strings.Fields(os.Getenv("LEAD_ARGS"))...)
			start := time.Now()
			out, err := target.Tester(args...).CombinedOutput()
			verdict := ""
			var rest []string
			for _, line := range strings.Split(string(out), "\n") {
				f := strings.Fields(line)
				if len(f) > 2 && (f[1] == "CLOSED" || f[1] == "OPEN" || f[1] == "DOUBTFUL") {
					verdict = line
				} else if !strings.Contains(line, " refused ") {
					if len(line) > 200 {
						line = line[:200]
					}
					rest = append(rest, line)
				}
			}
			t.Logf("RESULT %s want %s backscatter %v hole %s: %s (%v, %v)\n%s", c.Name(), c.Want, c.Backscatter, c.Hole, verdict, err, time.Since(start).Round(100*time.Millisecond), strings.Join(rest, "\n"))
		})
	}
}
