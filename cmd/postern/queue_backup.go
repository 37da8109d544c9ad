package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/queue"
	"postern/internal/state"
	"postern/serve"
)

func queueBackup() *cobra.Command {
	var p place
	c := &cobra.Command{
		Use: "backup DIR", Short: "copy the queue while the relay runs, and read the copy to its end", Args: cobra.ExactArgs(1),
		Long: `Backup copies the queue, as it is at one moment, into a folder that is not there
yet, reads every octet of the copy, and says what is in it. What leaves after the
backup is in it all the same: after a restore it is sent again.`,
		Example: `  postern queue backup /srv/backup/queue-2026-11-24`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if _, err := os.Lstat(args[0]); !errors.Is(err, os.ErrNotExist) {
				return usage("%s: it is there already; name a folder that is not there yet", args[0])
			}
			folder, err := p.folder()
			if err != nil {
				return err
			}
			control := serve.Dial(folder)
			var b serve.Backup
			if err := asOwner(folder, func() error { return control.Post(c.Context(), "/queue/backup", &b) }); err != nil {
				return controlError(c, err)
			}
			// The relay is shut in, and reaches its own folder only: it is us who copy.
			defer func() {
				err = errors.Join(err, asOwner(folder, func() error { return control.Post(c.Context(), "/queue/backup/done", &struct{}{}) }))
			}()
			from := filepath.Join(folder, b.Name)
			if !filepath.IsLocal(b.Name) {
				return &exit{code: exitIO, err: fmt.Errorf("the relay names %q, which is not in its own folder", b.Name)}
			}
			if err := copyFolder(folder, from, "", args[0]); err != nil {
				return &exit{code: exitIO, err: errors.Join(err, os.RemoveAll(args[0]))}
			}
			return verified(c, args[0], "backup")
		},
	}
	p.add(c)
	return c
}

// copyFolder copies the files of a folder, which has none within it, and comes
// back when they are on the disk. What is in a folder of state is read, or
// written, as its owner; of the two others one is "", and is ours.
func copyFolder(stateFrom, from, stateTo, to string) error {
	var list []os.DirEntry
	err := asOwner(stateFrom, func() (err error) {
		list, err = os.ReadDir(from)
		return err
	})
	if err != nil {
		return err
	}
	if err := asOwner(stateTo, func() error { return os.MkdirAll(to, 0o700) }); err != nil {
		return err
	}
	for _, f := range list {
		if !f.Type().IsRegular() {
			return fmt.Errorf("%s: neither a file nor a folder that we know", filepath.Join(from, f.Name()))
		}
		in, err := openAs(stateFrom, filepath.Join(from, f.Name()), os.O_RDONLY)
		if err != nil {
			return err
		}
		out, err := openAs(stateTo, filepath.Join(to, f.Name()), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if err != nil {
			return errors.Join(err, in.Close())
		}
		_, err = io.Copy(out, in)
		if err = errors.Join(err, out.Sync(), out.Close(), in.Close()); err != nil {
			return err
		}
	}
	return asOwner(stateTo, func() error {
		for _, path := range []string{to, filepath.Dir(to)} {
			d, err := os.Open(path)
			if err != nil {
				return err
			}
			if err := errors.Join(d.Sync(), d.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}

// openAs opens a file itself, no link, as the owner of a folder of state.
func openAs(folder, path string, how int) (f *os.File, err error) {
	err = asOwner(folder, func() (err error) {
		f, err = os.OpenFile(path, how|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		return err
	})
	return f, err
}

// verified reads a queue to its end and says what is in it.
func verified(c *cobra.Command, dir, word string) error {
	sum, err := serve.VerifyQueue(c.Context(), dir)
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	for _, fault := range sum.Faults {
		fmt.Fprintln(c.ErrOrStderr(), printable(fault.Error()))
	}
	if n := len(sum.Faults); n > 0 {
		return &exit{code: exitIO, err: fmt.Errorf("%s: %s in %s; restore a backup, or copy what can be read: postern queue salvage --out FOLDER", word, plural(n, "fault"), dir)}
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: whole; %s, %d octets; the history of %d that have left\n", word, plural(sum.Messages, "message"), sum.Octets, sum.Lives)
	if len(sum.Unsure) > 0 {
		fmt.Fprintf(c.OutOrStdout(), "%s coming in when the relay was stopped, and not kept: %s\n", plural(len(sum.Unsure), "message"), strings.Join(sum.Unsure, ", "))
	}
	if sum.Corrupt > 0 {
		fmt.Fprintf(c.OutOrStdout(), "%d records were moved aside before, and are no messages\n", sum.Corrupt)
	}
	return nil
}

func queueVerify() *cobra.Command {
	var p place
	c := &cobra.Command{
		Use: "verify [DIR]", Short: "read every octet of a backup, or of the queue while no relay runs", Args: cobra.MaximumNArgs(1),
		Example: `  postern queue verify /srv/backup/queue-2026-11-24

  # the state's own, after the relay was stopped
  postern queue verify`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return asOwner(args[0], func() error { return verified(c, serve.QueueIn(args[0]), "verify") })
			}
			folder, _, err := p.held("verify a backup of it: postern queue backup DIR does")
			if err != nil {
				return err
			}
			return errors.Join(verified(c, folder.Join("queue"), "verify"), folder.Close())
		},
	}
	p.add(c)
	return c
}

// held opens the state folder while no relay runs, and acts as its owner until
// back is called.
func (p *place) held(otherwise string) (folder *state.Folder, back func() error, err error) {
	path, back, err := p.enter()
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(filepath.Join(path, "version")); err != nil {
		return nil, nil, &exit{code: exitIO, err: fmt.Errorf("%s is no state folder; name it with --state", path)}
	}
	folder, err = state.Open(path)
	var taken *state.HeldError
	switch {
	case errors.As(err, &taken):
		return nil, nil, &exit{code: exitService, err: err, help: "or " + otherwise}
	case err != nil:
		return nil, nil, &exit{code: exitIO, err: err}
	}
	return folder, back, nil
}

func queueRestore() *cobra.Command {
	var p place
	var yes bool
	c := &cobra.Command{
		Use: "restore DIR", Short: "put a backup in the place of the queue, while no relay runs", Args: cobra.ExactArgs(1),
		Long: `Restore reads a backup to its end and puts it in the place of the queue. The
queue that was there is moved beside it, never deleted. What was sent after the
backup was made is sent again. On a new machine it makes the state folder.`,
		Example: `  postern queue restore /srv/backup/queue-2026-11-24 --yes`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := p.newState(); err != nil {
				return err
			}
			folder, back, err := p.held("stop it first: a queue that is in use is not replaced")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, folder.Close()) }()
			if _, err := os.Stat(folder.Join("queue")); err == nil && !yes {
				there := "a queue that cannot be read"
				if sum, err := serve.VerifyQueue(c.Context(), folder.Join("queue")); err == nil {
					there = "a queue of " + plural(sum.Messages, "message")
				}
				if err := agree(c, "put the backup in the place of "+there); err != nil {
					return err
				}
			}
			from, done, err := broughtIn(folder, back, serve.QueueIn(args[0]))
			if err != nil {
				return &exit{code: exitIO, err: err}
			}
			old, err := serve.RestoreQueue(c.Context(), folder, from, time.Now())
			if err = errors.Join(err, done()); err != nil {
				return &exit{code: exitIO, err: err}
			}
			if old != "" {
				fmt.Fprintf(c.OutOrStdout(), "the queue that was there is now %s\n", old)
			}
			return verified(c, folder.Join("queue"), "restore")
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	p.add(c)
	return c
}

// newState makes the state folder where there is none, or an empty one: a
// backup is also for a machine that has nothing yet.
func (p *place) newState() error {
	path, err := p.folder()
	if err != nil {
		return err
	}
	if list, err := os.ReadDir(path); err == nil && len(list) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil // what it is, held says
	}
	if err := p.founded(path); err != nil {
		return err
	}
	folder, err := state.Open(path)
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	return folder.Close()
}

func queueSalvage() *cobra.Command {
	var p place
	var out string
	c := &cobra.Command{
		Use: "salvage [DIR]", Short: "copy what can be read of a damaged queue or backup into a new queue", Args: cobra.MaximumNArgs(1),
		Long: `Salvage reads the queue of the state folder while no relay runs, or a backup, past
its damaged places, copies each message that is whole into a new queue in FOLDER,
and says of every other its id and why it cannot be read. What it reads from is
not changed. "postern queue restore FOLDER" puts the new queue in its place, and
keeps the damaged one beside it.`,
		Example: `  postern queue salvage --out /srv/salvaged
  postern queue restore /srv/salvaged --yes`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if out == "" {
				return usage("say where the new queue is to be: --out FOLDER, one that is not there yet")
			}
			if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
				return usage("%s: it is there already; name a folder that is not there yet", out)
			}
			into, err := filepath.Abs(out)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				if err := madeFor(args[0], into); err != nil {
					return err
				}
				return asOwner(args[0], func() error { return salvaged(c, serve.QueueIn(args[0]), into) })
			}
			path, err := p.folder()
			if err != nil {
				return err
			}
			if err := madeFor(path, into); err != nil {
				return err
			}
			folder, _, err := p.held("make a backup of it: postern queue backup DIR does")
			if err != nil {
				return errors.Join(err, os.Remove(into))
			}
			return errors.Join(salvaged(c, folder.Join("queue"), into), folder.Close())
		},
	}
	c.Flags().StringVar(&out, "out", "", "the `folder` that the new queue is made in")
	p.add(c)
	return c
}

// madeFor makes a folder that belongs to whom another one belongs to, as whom we
// are about to act.
func madeFor(like, path string) error {
	info, err := os.Stat(like)
	if err == nil {
		err = os.Mkdir(path, 0o700)
	}
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 || !ok {
		return nil
	}
	// The folder itself, whatever stands under its name by now.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err == nil {
		err = errors.Join(f.Chown(int(owner.Uid), int(owner.Gid)), f.Close())
	}
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	return nil
}

// salvaged copies what can be read, and tells of the rest.
func salvaged(c *cobra.Command, dir, into string) error {
	got, err := serve.SalvageQueue(c.Context(), dir, filepath.Join(into, "queue"))
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	said := c.OutOrStdout()
	for _, note := range got.Notes {
		fmt.Fprintf(said, "damaged: %s\n", printable(note))
	}
	for _, l := range got.Lost {
		fmt.Fprintf(said, "lost: message %s: %s\n", printable(l.ID), printable(l.Why))
	}
	if len(got.Unsure) > 0 {
		fmt.Fprintf(said, "not kept, since it was coming in when the relay was stopped: %s\n", strings.Join(got.Unsure, ", "))
	}
	fmt.Fprintf(said, "salvage: %s, %d octets, and the history of %d that have left are in %s; %d lost\n",
		plural(got.Messages, "message"), got.Octets, got.Lives, into, len(got.Lost))
	fmt.Fprintf(said, "to go on with them: postern queue restore %s\n", into)
	if len(got.Lost) > 0 {
		return &exit{code: exitIO, err: fmt.Errorf("salvage: %s cannot be read; ask the senders, or look for them in a backup", plural(len(got.Lost), "message"))}
	}
	return nil
}

// broughtIn returns a folder with a backup's files that the owner of the state
// folder, as whom we act, can read: the backup, or a copy of what is root's, which
// done removes.
func broughtIn(folder *state.Folder, back func() error, backup string) (dir string, done func() error, err error) {
	if os.Getuid() == os.Geteuid() || allReadable(backup) {
		return backup, func() error { return nil }, nil
	}
	copied := folder.Join("restoring-" + queue.NewID())
	done = func() error { return os.RemoveAll(copied) }
	if err := back(); err != nil {
		return "", nil, err
	}
	err = copyFolder("", backup, folder.Path, copied)
	if _, again := become(folder.Path); err != nil || again != nil {
		return "", nil, errors.Join(err, again, done())
	}
	return copied, done, nil
}

func allReadable(dir string) bool {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if f, open := os.Open(filepath.Join(dir, e.Name())); open != nil || f.Close() != nil {
			return false
		}
	}
	return err == nil
}
