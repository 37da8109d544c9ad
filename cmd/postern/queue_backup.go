package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

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
			if err := control.Post(c.Context(), "/queue/backup", &b); err != nil {
				return controlError(c, err)
			}
			// The relay is shut in, and reaches its own folder only: it is us who copy.
			defer func() { err = errors.Join(err, control.Post(c.Context(), "/queue/backup/done", &struct{}{})) }()
			if err := copyFolder(filepath.Join(folder, b.Name), args[0]); err != nil {
				return &exit{code: exitIO, err: errors.Join(err, os.RemoveAll(args[0]))}
			}
			return verified(c, args[0], "backup")
		},
	}
	p.add(c)
	return c
}

// copyFolder copies the files of a folder, which has none within it, and comes
// back when they are on the disk.
func copyFolder(from, to string) error {
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, f := range list {
		if !f.Type().IsRegular() {
			return fmt.Errorf("%s: neither a file nor a folder that we know", filepath.Join(from, f.Name()))
		}
		if err := copyFile(filepath.Join(from, f.Name()), filepath.Join(to, f.Name())); err != nil {
			return err
		}
	}
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
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
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
		return &exit{code: exitIO, err: fmt.Errorf("%s: %s in %s; restore a backup, or look at the disk first", word, plural(n, "fault"), dir)}
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: whole; %s, %d octets; the history of %d that have left\n", word, plural(sum.Messages, "message"), sum.Octets, sum.Lives)
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
				return verified(c, serve.QueueIn(args[0]), "verify")
			}
			folder, err := p.held("verify a backup of it: postern queue backup DIR does")
			if err != nil {
				return err
			}
			return errors.Join(verified(c, folder.Join("queue"), "verify"), folder.Close())
		},
	}
	p.add(c)
	return c
}

// held opens the state folder while no relay runs.
func (p *place) held(otherwise string) (*state.Folder, error) {
	path, err := p.folder()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(path, "version")); err != nil {
		return nil, &exit{code: exitIO, err: fmt.Errorf("%s is no state folder; name it with --state", path)}
	}
	folder, err := state.Open(path)
	var taken *state.HeldError
	switch {
	case errors.As(err, &taken):
		return nil, &exit{code: exitService, err: err, help: "or " + otherwise}
	case err != nil:
		return nil, &exit{code: exitIO, err: err}
	}
	return folder, nil
}

func queueRestore() *cobra.Command {
	var p place
	var yes bool
	c := &cobra.Command{
		Use: "restore DIR", Short: "put a backup in the place of the queue, while no relay runs", Args: cobra.ExactArgs(1),
		Long: `Restore reads a backup to its end and puts it in the place of the queue. The
queue that was there is moved beside it, never deleted. What was sent after the
backup was made is sent again.`,
		Example: `  postern queue restore /srv/backup/queue-2026-11-24 --yes`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			folder, err := p.held("stop it first: a queue that is in use is not replaced")
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
			old, err := serve.RestoreQueue(c.Context(), folder, args[0], time.Now())
			if err != nil {
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
