package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"postern/serve"
)

// control speaks to the relay that holds the state folder.
func (p *place) control() (*serve.Control, error) {
	path, _, err := p.enter()
	if err != nil {
		return nil, err
	}
	return serve.Dial(path), nil
}

// controlError gives an error of the relay its exit code.
func controlError(c *cobra.Command, err error) error {
	if errors.Is(err, serve.ErrNotRunning) {
		return &exit{code: exitService, err: err}
	}
	var r *serve.Refusal
	if errors.As(err, &r) {
		code := exitUsage
		if r.Code == http.StatusNotFound {
			code = exitNothing
		}
		return &exit{code: code, err: r.Err}
	}
	return badConfig(c.ErrOrStderr(), err)
}

func reloadCommand() *cobra.Command {
	var p place
	c := &cobra.Command{
		Use:   "reload",
		Short: "put the configuration in force as it is written now",
		Long: `Reload lets the running relay read its configuration anew: compiled, proved and
audited. When it is refused, the running policy stays in force, the problems are
printed, and the exit code is 78.`,
		Example: `  # after a change
  postern reload

  # of a relay with a state folder of its own
  postern reload --state /srv/postern`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			if err := control.Post(c.Context(), "/reload", &struct{}{}); err != nil {
				err = controlError(c, err)
				var e *exit
				if errors.As(err, &e) && e.code == exitConfig {
					e.help += "; the running policy stays in force"
				}
				return err
			}
			var s serve.Status
			if err := control.Get(c.Context(), "/status", &s); err != nil {
				return controlError(c, err)
			}
			fmt.Fprintf(c.OutOrStdout(), "in force: policy %s, closed (%d forms x %d addresses x %d listeners, %.1f s)\n",
				s.Policy, s.Audited.Forms, s.Audited.Addresses, s.Audited.Listeners, s.Audited.Took.Seconds())
			return nil
		},
	}
	p.add(c)
	return c
}
