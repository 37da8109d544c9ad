package verdict

import (
	"testing"

	"postern/mail"
)

// What real servers say.
func TestMeaningOf(t *testing.T) {
	for _, c := range []struct {
		code           int
		enhanced, text string
		want           Meaning
	}{
		{454, "4.7.1", "<a@far.example>: Relay access denied", DeniesRelay},                                                       // Postfix
		{550, "", "relay not permitted", DeniesRelay},                                                                             // Exim
		{550, "5.7.1", "<a@far.example>... Relaying denied. Proper authentication required.", DeniesRelay},                        // Sendmail
		{553, "", "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", DeniesRelay},                               // qmail
		{550, "5.7.54", "SMTP; Unable to relay recipient in non-accepted domain", DeniesRelay},                                    // Exchange
		{550, "", "Authentication is required for relay", DeniesRelay},                                                            // Mercury
		{503, "", "This mail server requires authentication when attempting to send to a non-local e-mail address.", DeniesRelay}, // MailEnable
		{454, "", "no", DeniesRelay},
		{550, "5.1.1", "<x@ours.example>: Recipient address rejected: User unknown in local recipient table", UnknownUser},
		{550, "5.1.10", "RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", UnknownUser},
		{511, "", "sorry, no mailbox here by that name (#5.1.1 - chkuser)", UnknownUser},
		{550, "5.1.1", "go away", UnknownUser},
		{550, "", "No such user here", UnknownUser},
		{550, "5.1.1", "relaying denied", DeniesRelay},
		{550, "5.1.2", "no", UnknownHost},
		{450, "4.1.2", "<a@far.example>: Recipient address rejected: Domain not found", UnknownHost},
		{530, "5.7.0", "Must issue a STARTTLS command first", WantsTLS},
		{554, "5.7.1", "Session encryption is required", WantsTLS},
		{550, "5.7.10", "no", WantsTLS},
		{530, "5.7.0", "Authentication required", WantsAuth},
		{530, "5.7.57", "Client not authenticated to send mail", WantsAuth},
		{550, "5.7.1", "Please log in first", WantsAuth},
		{550, "5.7.1", "Client was not authenticated", WantsAuth},
		{503, "", "SMTP AUTH is needed", WantsAuth},
		{530, "", "no", WantsAuth},
		{554, "5.7.1", "Service unavailable; Client host [192.0.2.66] blocked using zen.spamhaus.org", BlocksUs},
		{550, "5.7.1", "Your IP is listed", BlocksUs},
		{550, "5.7.1", "message content rejected", BadContent},
		{554, "5.7.1", "Spam message rejected", BadContent},
		{450, "4.2.0", "Greylisted, see http://postgrey.example/help", TryLater},
		{451, "4.7.1", "Please try again later", TryLater},
		{450, "4.7.1", "too many relay attempts, try again later", TryLater},
		{554, "5.7.1", "relaying denied, do not try again", DeniesRelay},
		{554, "5.7.1", "<DATA>: Data command rejected: Access denied", ""},
		{554, "5.7.1", "<END-OF-MESSAGE>: End-of-data rejected: Access denied", ""},
		{550, "", "Invalid recipient: <a@far.example>", ""},
		{550, "", "attribute generated", ""},
		{550, "5.1.1", "<anna@relay.example>: User unknown", UnknownUser},
		{550, "", "anna@relay.example is an unknown user", UnknownUser},
		{550, "", "rejected, see https://login.example/relay", ""},
		{550, "5.7.1", "rejected, see https://www.spamhaus.org/query", BlocksUs},
		{550, "5.7.1", "Mailbox does not exist", UnknownUser},
		{550, "", "anna does not exist here", UnknownUser},
		{550, "5.7.25", "PTR record not found for 192.0.2.66", ""},
		{550, "", "hostname of your server does not exist", ""},
		{550, "5.7.1", "Domain of sender address s@x.example does not exist", ""},
		{250, "2.1.5", "relay ok", ""},
	} {
		if got := MeaningOf(mail.NewReply(c.code, c.enhanced, c.text)); got != c.want {
			t.Errorf("%d %s %s: %q, want %q", c.code, c.enhanced, c.text, got, c.want)
		}
	}
}
