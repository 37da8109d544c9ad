package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/attr"
	"postern/internal/config"
	"postern/internal/problem"
	"postern/internal/state"
	"postern/internal/systemd"
	"postern/mail"
	"postern/serve"
)

// defaultConfig is read when it is there and nobody names another.
const defaultConfig = "/etc/postern/postern.hcl"

// place is where a relay has its configuration and its state.
type place struct{ config, state string }

func (p *place) add(c *cobra.Command) {
	c.Flags().StringVar(&p.config, "config", "", "configuration `FILE` (default: that of "+configVariable+", or "+defaultConfig+" where it exists)")
	c.Flags().StringVar(&p.state, "state", "", "`FOLDER` of the state (default: the configuration's, or the XDG state folder)")
}

// file returns the configuration file, "" for none.
func (p *place) file() string {
	if p.config != "" {
		return p.config
	}
	if file := namedByEnvironment(); file != "" {
		return file
	}
	if _, err := os.Stat(defaultConfig); err == nil {
		return defaultConfig
	}
	return ""
}

// settings reads the configuration; without a file, the one for loopback.
func (p *place) settings() (serve.Settings, error) {
	if file := p.file(); file != "" {
		s, err := config.Load(file)
		return s, err
	}
	return config.Default(hostName()), nil
}

func hostName() mail.Domain {
	for _, name := range []string{first(os.Hostname()), "localhost"} {
		if d, err := mail.ParseDomain(name); err == nil {
			return d
		}
	}
	return mail.Domain{}
}

func first(name string, _ error) string { return name }

// folder returns the state folder's path. What a configuration with mistakes
// says of it counts; if it says nothing of use, no other folder is taken for it.
func (p *place) folder() (string, error) {
	if p.state != "" {
		return p.state, nil
	}
	s, err := p.settings()
	switch {
	case s.State != "":
		return s.State, nil
	case err != nil:
		return "", &exit{code: exitConfig, err: err, help: "where the state is, is not known; mend that, or say --state FOLDER"}
	}
	path, err := state.Default()
	if err != nil {
		return "", &exit{code: exitIO, err: err}
	}
	return path, nil
}

func serveCommand() *cobra.Command {
	var p place
	var in shutIn
	var f catchFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "run the relay that cannot become an open relay",
		Long: `Serve receives and transmits mail for the people it knows. Before it opens a
port it proves its policy over every class of input and audits itself with the
battery of postern check; a configuration that would relay for strangers is
refused, with the line that does it.

Without a configuration it listens on loopback only, holds what it takes, and
makes one user whose password it shows once. SIGHUP and postern reload read the
configuration anew. SIGTERM lets messages that are under way come to their end
within 30 seconds; a second one ends at once.

Once set up, the relay shuts itself in (Landlock, seccomp) and is no longer
root; docs/running.md says how, and how systemd starts it.

With --catch it is a mail catcher for developers instead: on loopback only, it
takes everything, delivers nothing, and shows it on a page and to tests.`,
		Example: `  # at once, on loopback
  postern serve

  # with a configuration that postern init wrote
  postern serve --config postern.hcl

  # to see what a program of yours sends
  postern serve --catch`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.alone(c); err != nil {
				return err
			}
			if f.on {
				return runCatch(c.Context(), c.OutOrStdout(), f)
			}
			return runServe(c, p, in)
		},
	}
	p.add(c)
	in.add(c)
	f.add(c)
	return c
}

func runServe(c *cobra.Command, p place, in shutIn) error {
	settings, err := p.settings()
	if err != nil {
		return badConfig(c.ErrOrStderr(), err)
	}
	// Whoever reads our words may go or sleep; mail does not wait for that. A
	// write to a pipe that nobody reads would end the process.
	signal.Ignore(syscall.SIGPIPE)
	words := newOutlet(c.ErrOrStderr(), gapOf(settings.Log))
	c.Root().SetErr(words)
	defer atOnce(words)()
	path, err := p.folder()
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	log := logger(words, settings.Log)
	mind := &minder{log: log, words: words}
	mind.manager, err = systemd.Manager()
	mind.note(err)
	defer func() { mind.note(mind.manager.Close()) }()
	passed, err := systemd.Sockets()
	if err != nil {
		return &exit{code: exitConfig, err: err}
	}
	_, missing := os.Stat(path)
	sockets, err := in.become(settings, path, passed)
	if err != nil {
		return startError(c.ErrOrStderr(), err)
	}
	folder, err := state.Open(path)
	if err != nil {
		return stateError(err)
	}
	defer func() { mind.note(folder.Close()) }()
	began := time.Now()
	relay, err := serve.New(c.Context(), serve.Options{State: folder, Log: log, Sockets: sockets, Phase: mind.phase, Ails: words.ails, Load: func() (serve.Settings, error) {
		s, err := p.settings()
		if err == nil {
			err = in.fits(s, path)
		}
		return s, err
	}})
	if err != nil && c.Context().Err() != nil {
		fmt.Fprintln(c.ErrOrStderr(), "postern: told to stop before anything was served")
		return nil
	}
	if err != nil {
		return startError(c.ErrOrStderr(), err)
	}
	mind.relay = relay
	if most := relay.HeapLimit(); most > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(most)
	}
	walls, tell, err := in.enter(settings, path, log)
	if err != nil {
		return &exit{code: exitService, err: err}
	}
	took := time.Since(began)
	printReady(c.OutOrStdout(), relay.Status(), missing != nil, walls, took)
	tell()
	log.Info("ready", slog.String("version", version()), attr.Took(took))
	err = serveUntil(c.Context(), relay, mind)
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// serveUntil serves until ctx ends, reloads at SIGHUP, and keeps the service
// manager informed.
func serveUntil(ctx context.Context, relay *serve.Relay, mind *minder) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	var beside sync.WaitGroup
	beside.Go(func() {
		for {
			select {
			case <-hup:
				_ = relay.Reload(ctx) // logged there
			case <-ctx.Done():
				return
			}
		}
	})
	beside.Go(func() { mind.run(ctx) })
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	err := within(ctx, relay, ended)
	cancel()
	if err != nil {
		return &exit{code: exitAgain, err: err}
	}
	beside.Wait()
	return nil
}

// mostStop is how long a relay may take to end, once it was told to or a part of
// it has failed: what it waits for has 30 seconds, and the service manager
// kills after 45.
const mostStop = 40 * time.Second

var errStuck = errors.New("not all of the relay came to its end in time; what was answered 250 is on disk")

// within returns how the relay ended. A part that hangs does not keep the
// others from ending.
func within(ctx context.Context, relay interface{ Ending() <-chan struct{} }, ended <-chan error) error {
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	case <-relay.Ending():
	}
	t := time.NewTimer(mostStop)
	defer t.Stop()
	select {
	case err := <-ended:
		return err
	case <-t.C:
		return errStuck
	}
}

// atOnce ends the program at the second signal to end. What was answered 250
// is on disk by then; what was not is sent again by its client.
func atOnce(w *outlet) (stop func()) {
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case s := <-c:
				if n > 0 {
					fmt.Fprintln(w, "postern: ended at once by a second signal; what was answered 250 is on disk")
					w.flush()
					os.Exit(signalled(s))
				}
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(c); close(done) }
}

// signalled is the exit code of who was ended by a signal.
func signalled(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return exitSoftware
}

// logger writes lines of the mail log; hostile text is quoted by the handler.
func logger(w io.Writer, l serve.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if l.JSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// gapOf writes the line of a log that says how many are missing.
func gapOf(l serve.Log) func(int) []byte {
	return func(lines int) []byte {
		var b bytes.Buffer
		logger(&b, serve.Log{JSON: l.JSON}).Error("lines of the log are missing here: its reader did not keep up", slog.Int("lines", lines))
		return b.Bytes()
	}
}

// badConfig prints the problems of a configuration, one a line.
func badConfig(w io.Writer, err error) error {
	list := problem.All(err)
	for _, p := range list {
		fmt.Fprintln(w, p.Error())
	}
	return &exit{code: exitConfig, help: plural(len(list), "problem")}
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func startError(w io.Writer, err error) error {
	var open *serve.NotClosedError
	var p *problem.Problem
	switch {
	case errors.As(err, &open):
		fmt.Fprintln(w, "This configuration would relay for strangers. It is not put in force.")
		return badConfig(w, err)
	case errors.As(err, &p):
		return badConfig(w, err)
	}
	return &exit{code: exitIO, err: err}
}

func stateError(err error) error {
	var held *state.HeldError
	switch {
	case errors.As(err, &held):
		return &exit{code: exitService, err: err}
	case errors.Is(err, fs.ErrPermission):
		return &exit{code: exitIO, err: err, help: "the state folder must belong to who runs postern"}
	}
	return &exit{code: exitIO, err: err}
}

// printReady says what runs and what to do first.
func printReady(w io.Writer, s serve.Status, fresh bool, walls string, took time.Duration) {
	is := "found"
	if fresh {
		is = "new"
	}
	what := s.File
	if what == "" {
		what = "no configuration: loopback only, outgoing mail is held"
	}
	fmt.Fprintf(w, "postern %s  state %s (%s)\n%s\n\n", version(), s.State, is, what)
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	for _, l := range s.Listeners {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", l.Name, strings.Join(l.Addrs, " "), roleText[l.Role])
	}
	_ = t.Flush() // a terminal that is gone ends the program by itself
	if s.First != "" {
		fmt.Fprintf(w, "  user %s, password %s (shown once;\n  postern user passwd changes it)\n", serve.FirstUser, s.First)
	}
	fmt.Fprintf(w, "\nproof        %s\n", strings.ReplaceAll(s.Proof, "; ", "\n             "))
	a := s.Audited
	fmt.Fprintf(w, "self-audit   closed   %d forms x %d addresses x %d listeners, %.1f s\n", a.Forms, a.Addresses, a.Listeners, a.Took.Seconds())
	fmt.Fprintf(w, "sandbox      %s\n", walls)
	fmt.Fprintf(w, "wall         closed for %s, strangers turned away %d, relayed for strangers %d\n", plural(s.Wall.Days, "day"), s.Wall.Turned, s.Wall.Relayed)
	if s.File != "" { // without a file nobody wrote what there is to warn of
		for _, p := range s.Warnings {
			fmt.Fprintln(w, p.Error())
		}
		if s.Hold != "" {
			fmt.Fprintln(w, "held         "+s.Hold)
		}
	}
	fmt.Fprintf(w, "ready after  %.1f s\n", took.Seconds())
	if at := submissionAddress(s); at != "" && s.First != "" {
		fmt.Fprintf(w, "\ntry   swaks --server %s -tls -au %s \\\n        -ap %s \\\n        --from you@example.org --to me@example.net\nthen  %s queue list\n", at, serve.FirstUser, s.First, called(os.Args[0]))
	}
}

// called is how the person who started the program calls it again.
func called(program string) string {
	switch found, err := exec.LookPath("postern"); {
	case strings.Contains(program, "/go-build"): // of go run, which deletes it at the end
		return "go run ./cmd/postern"
	case err == nil && filepath.Base(program) == "postern" && !strings.Contains(program, "/"), err == nil && found == program:
		return "postern"
	}
	return program
}

var roleText = map[string]string{
	"mx":          "mail for our own domains, from anybody",
	"submission":  "STARTTLS, login needed",
	"submissions": "TLS, login needed",
	"trusted":     "trusted clients, by address",
	"gateway":     "a way out, for people whom we know",
}

func submissionAddress(s serve.Status) string {
	for _, l := range s.Listeners {
		if l.Role == "submission" && len(l.Addrs) > 0 {
			for _, a := range l.Addrs {
				if strings.HasPrefix(a, "127.") {
					return a
				}
			}
			return l.Addrs[0]
		}
	}
	return ""
}
