// Program engine measures the session engine beside two others that also
// throw everything away: smtp-sink of Postfix and go-smtp. All are fed by the
// same clients in the same run: Postfix's smtp-source, and a client of ours
// that pipelines. ./run does all of it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0:
		return measure(ctx, os.Stdout)
	case len(args) == 3 && args[0] == "serve":
		return serve(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "load":
		return load(ctx, args[1], args[2])
	}
	return fmt.Errorf("unknown arguments %q; run it without any", args)
}
