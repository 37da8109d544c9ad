package probe

import (
	"context"

	"postern/transcript"
	"postern/verdict"
)

// Forward looks at a mail port for the signs that it is forwarded to somebody
// else's server. What is played there are the forms of the smtp door; whether
// the port is forwarded shows in the message that arrives, and where its trace
// fields tell nothing, in the name and the certificate of what answers.
type Forward struct{ SMTP }

// Look opens one session, encrypted if the server offers that, and returns
// what it says of itself. No envelope is sent.
func (f Forward) Look(ctx context.Context) (verdict.Session, error) {
	v, err := f.Open(ctx, &transcript.Transcript{})
	if err != nil {
		if v != nil {
			return v.Session, err
		}
		return verdict.Session{}, err
	}
	defer v.Close()
	if v.Session.TLS == "" && v.Offers("STARTTLS") {
		if r, err := v.command(ctx, "STARTTLS"); err != nil || !r.Positive() {
			return v.Session, err
		}
		if err := v.startTLS(ctx, nil); err != nil {
			return v.Session, err
		}
	}
	return v.Session, nil
}
