package check_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"postern/check"
	"postern/open"
	"postern/plan"
)

// A check without the command line: one target, its report. Here the server
// is one of the open side's, behind a pipe, and the collector is the test's.
func ExampleRun() {
	w := &world{fresh: make(chan struct{}, 1)}
	server := open.SMTP{Name: "mx.ours.example", Sink: w, Limits: limits()}
	target, err := plan.ParseTarget("203.0.113.10:25")
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := check.Run(context.Background(), target, check.Options{
		Collector: w,
		Owned:     true, // our own machine
		Quick:     true,
		Wait:      time.Minute,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			client, conn := net.Pipe()
			go func() { _ = server.ServeConn(ctx, conn) }()
			return newBuffered(client), nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	door := report.Addresses[0].Doors[0]
	fmt.Printf("%s: %s\nproved by %s, which came out at %s\n", report.Verdict(), door.Why, door.Proof.Form.ID, door.Proof.Egress)
	// Output:
	// open: the server relays for anyone who connects
	// proved by plain, which came out at 203.0.113.10
}
