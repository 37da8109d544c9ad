// Landlock's limits for TCP do not see Multipath TCP, which Go uses for what
// listens where it is not told otherwise.
//
//go:debug multipathtcp=0

// Command postern is a mail relay that cannot become an open one, finds and
// proves those that are, and shows them. Each command has a file of its own; the work is done by
// the packages that it composes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, the same for every command; docs/exit.md says what each means.
const (
	exitOK        = 0
	exitOpen      = 1
	exitDoubtful  = 2
	exitNothing   = 3
	exitUsage     = 64
	exitService   = 69
	exitSoftware  = 70
	exitIO        = 74
	exitAgain     = 75 // a relay that ran has failed: a new start may help
	exitForbidden = 77
	exitConfig    = 78
)

// An exit ends the program with a code; its error is printed when there is one.
type exit struct {
	code int
	err  error
	help string // what to do
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exit{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run runs one command and returns the exit code.
func run(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	defer func() { // what was said last is heard, in peace or not
		if words, ok := root.ErrOrStderr().(*outlet); ok {
			words.flush()
		}
	}()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	e := &exit{code: exitUsage, err: err, help: "see postern --help"}
	errors.As(err, &e)
	if e.err != nil {
		fmt.Fprintln(root.ErrOrStderr(), "postern:", e.err)
	}
	if e.help != "" {
		fmt.Fprintln(root.ErrOrStderr(), e.help)
	}
	return e.code
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "postern",
		Short: "a mail relay that cannot become an open one, and the auditor of all others",
		Long: `Postern is a mail relay that cannot become an open relay, a server that carries
anybody's mail; and it finds and proves those that are.

  postern serve         run the relay; without a configuration, on loopback
  postern init          write a first configuration
  postern explain       why a session is let in or not, and by which line
  postern queue list    what waits
  postern trace ID      what became of a message
  postern check HOST    test a mail server of yours; prove an open one
  postern lab           every kind of open relay and decoy, on loopback
  postern doctor        what to mend on this machine, or in a Postfix

Each command has --help with examples. More: README.md and docs/.`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), checkCommand(), labCommand(), collectCommand(),
		reloadCommand(), explainCommand(), proveCommand(), userCommand(), queueCommand(), traceCommand(), trafficCommand(), topCommand(), releaseCommand(), rejectCommand(), routeCommand(), configCommand(), doctorCommand(), initCommand(), versionCommand())
	strict(root)
	return root
}
