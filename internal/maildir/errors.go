package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"postern/mail"
)

// An Error says why a message was not delivered, to us, and as a reply to the
// one who sent it. The reply names no path.
type Error struct {
	Reply mail.Reply // 550 for good; 451 or 452 when it may be tried again
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

var errNoMailbox = errors.New("no mailbox")

func refuse(err error) error {
	return &Error{mail.NewReply(550, "5.1.1", "No such mailbox"), err}
}

// failed names what happened to a folder. All of it is temporary: the message
// is good, and somebody can mend the folder.
func failed(folder, doing string, err error) error {
	reply, do := mail.NewReply(451, "4.3.0", "The mailbox cannot be written at the moment"), "see what this is, and mend the folder"
	switch {
	case errors.Is(err, syscall.ENOSPC):
		reply, do = mail.NewReply(452, "4.3.1", "No room on the disk"), "make room on the disk"
	case errors.Is(err, syscall.EDQUOT):
		reply, do = mail.NewReply(452, "4.2.2", "Mailbox full"), "raise the quota of the folder's owner, or make room"
	case errors.Is(err, fs.ErrPermission):
		do = "let the user that we run as write there"
	case errors.Is(err, syscall.EROFS):
		do = "the file system is read-only; mount it for writing"
	case errors.Is(err, fs.ErrNotExist):
		do = "make the folder above it, or mount its disk"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		do = "a file stands where a folder belongs; move it away"
	case errors.Is(err, syscall.EIO):
		do = "the disk fails; look at the system's log"
	}
	return &Error{reply, fmt.Errorf("maildir %s: %s: %w; %s", folder, doing, err, do)}
}
