package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/mail"
	"postern/smtp"
)

// Some servers offer PIPELINING (RFC 2920) and cannot: they lose what comes
// behind the first command of a group, or answer twice. What belongs to what is
// then unknown, and such a server is asked again one command at a time.

// A step says whether answers stand where they belong.
type step uint8

const (
	unproved step = iota
	inStep        // the answer to EHLO at the end of a group was that to EHLO
	lost          // no answer can be told from another any more
)

// ErrOutOfStep is returned when the server's answers to a group of commands do
// not belong to them: RSET is always answered with 250 (RFC 5321 section
// 4.1.1.5). The session is of no more use; another should go in lockstep.
var ErrOutOfStep = errors.New("the server's answers are out of step with the commands")

// groupPatience is how long one answer of a group is waited for. A server that
// takes longer is asked again in lockstep, with all the patience that it needs.
const groupPatience = 10 * time.Second

// pipelines reports whether commands are sent in groups.
func (v *Visit) pipelines() bool { return v.Offers("PIPELINING") && !v.smtp.Lockstep }

// next reads one answer of a group.
func (v *Visit) next(ctx context.Context) (mail.Reply, error) {
	d := groupPatience
	if v.smtp.Timeout > 0 {
		d = min(d, v.smtp.Timeout)
	}
	r, err := v.replyWithin(ctx, d)
	if err == nil && r.Code == 421 {
		return r, &ClosingError{Reply: r}
	}
	return r, err
}

// outOfStep makes the error of a group that was not answered as it was asked.
// The end of the session, by the server or by us, is no fault of this kind.
func (v *Visit) outOfStep(err error) error {
	switch {
	case ended(err), errors.Is(err, context.Canceled):
		return err
	case err == nil:
		err = ErrOutOfStep
	default:
		err = fmt.Errorf("%w: %w", ErrOutOfStep, err)
	}
	v.step = lost
	v.record.Note(time.Now(), err.Error())
	return err
}

// OutOfStep reports whether the session was lost because its answers did not
// belong to the commands.
func (v *Visit) OutOfStep() bool { return v.step == lost }

// isHello reports whether r is what EHLO was answered with before, as far as
// nothing else is answered so.
func (v *Visit) isHello(r mail.Reply) bool {
	h := v.Session.Hello
	return r.Code == h.Code && len(r.Lines) == len(h.Lines) && len(h.Lines) > 1
}

// Unanswered reports whether the session was given up in the middle of a
// command because no answer came in time.
func (v *Visit) Unanswered() bool { return v.silent }

// waited notes that an answer did not come in time: it may still come, and
// would be taken for that to the next command.
func (v *Visit) waited(err error) {
	v.silent = v.silent || errors.Is(err, smtp.ErrTimeout)
}
