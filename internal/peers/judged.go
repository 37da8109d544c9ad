package peers

// takesAll are lines of main.cf by which Postfix accepts every recipient.
const takesAll = "smtpd_relay_restrictions = check_recipient_access static:OK, reject_unauth_destination\nlocal_recipient_maps =\n"

// judgedCases are servers whose answer to RCPT is not their last word, and servers that refuse what
// a control asks for. Their owner has named no domain.
var judgedCases = []Case{
	{
		Server: "postfix", Config: "closed-at-data", What: "accepts every recipient; smtpd_data_restrictions = reject",
		Want: "closed", Family: "4", Knock: plain, Unnamed: true, Shuns: true,
		setup: postfix(takesAll + "smtpd_data_restrictions = reject"),
	},
	{
		Server: "postfix", Config: "closed-at-dot", What: "accepts every recipient; smtpd_end_of_data_restrictions = reject",
		Want: "closed", Family: "4", Knock: plain, Unnamed: true, Shuns: true,
		setup: postfix(takesAll + "smtpd_end_of_data_restrictions = reject"),
	},
	{
		Server: "postfix", Config: "closed-returning", What: "accepts everything; FILTER error: whatever comes from outside is returned",
		Want: "closed", Backscatter: true, Takes: true, Family: "4", Knock: plain, Unnamed: true,
		setup: postfix(takesAll + "smtpd_end_of_data_restrictions = check_sender_access static:{FILTER error:5.7.1 we do not relay}"),
	},
	{
		Server: "exim", Config: "closed-returning", What: "accept at the head of the ACL for RCPT, and a router that fails what comes from outside for others",
		Want: "closed", Backscatter: true, Takes: true, Family: "4", Knock: plain, Unnamed: true,
		setup: exim("", "", "accept", `sed -i '/^begin routers/r /etc/exim4/fail_others' /etc/exim4/exim4.conf.template`),
	},
	{
		Server: "postfix", Config: "catch-all-unnamed", What: "luser_relay, as the case catch-all, and nobody says which domain it is",
		Want: "closed", Family: "4", Knock: plain, Unnamed: true,
		setup: postfix("local_recipient_maps =\nluser_relay = anna"),
	},
	{
		Server: "postfix", Config: "closed-no-postmaster", What: "check_recipient_access refuses postmaster@ as an unknown user",
		Want: "closed", Family: "4", Knock: plain, Unnamed: true, Shuns: true,
		setup: postfix("smtpd_recipient_restrictions = check_recipient_access inline:{ {postmaster@ = 550 5.1.1 User unknown} }"),
	},
	{
		Server: "exim", Config: "closed-no-postmaster", What: "deny local_parts = postmaster at the head of the ACL for RCPT, in the words for an unknown user",
		Want: "closed", Family: "4", Knock: plain, Unnamed: true, Shuns: true,
		setup: exim("", "", "deny\n  local_parts = postmaster\n  message = Unrouteable address"),
	},
	{
		Server: "postfix", Config: "closed-login", What: "check_sender_access static:{530 5.7.0 Authentication required}, smtpd_delay_reject = no",
		Want: "closed", Family: "4", Knock: plain, Unnamed: true, Shuns: true,
		setup: postfix("smtpd_delay_reject = no\nsmtpd_sender_restrictions = check_sender_access static:{530 5.7.0 Authentication required}"),
	},
	{
		Server: "postfix", Config: "closed-login-550", What: "check_recipient_access static:{550 5.7.1 Please log in first}",
		Want: "closed", Family: "4", Knock: plain, Unnamed: true, Shuns: true,
		setup: postfix("smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = check_recipient_access static:{550 5.7.1 Please log in first}, reject_unauth_destination"),
	},
}
