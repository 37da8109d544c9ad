package serve

import (
	"context"
	"crypto/tls"

	"postern/guard"
	"postern/mail"
)

// nobody is the Login of the self-audit: it offers what the relay offers, so
// that the battery can try, and lets nobody in.
type nobody struct{}

func (nobody) Mechanisms(*tls.ConnectionState) []string { return []string{"PLAIN", "LOGIN"} }

func (nobody) Login(_ context.Context, _ guard.LoginClient, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) guard.LoginResult {
	for n := 0; n < 2 && (initial == nil || mechanism == "LOGIN"); n++ {
		response, err := challenge(nil)
		if err != nil {
			break
		}
		initial = response
	}
	return guard.LoginResult{Reply: mail.NewReply(535, "5.7.8", "User name or password is wrong"), Why: "self-audit"}
}
