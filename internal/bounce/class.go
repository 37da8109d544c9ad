package bounce

// A Class says why a message was not taken.
type Class uint8

// The classes. The zero value is Unknown.
const (
	Unknown     Class = iota
	BadAddress        // nobody of that name
	BadDomain         // no such domain, or it takes no mail there
	MailboxFull       // the mailbox has no room
	MailboxOff        // the mailbox is closed, suspended or asleep
	TooLarge          // the message has more octets than are taken
	Policy            // content, spam, or who it seems to come from: SPF, DKIM, DMARC
	Reputation        // the sending address: blocklists, no PTR
	Rate              // too fast, too many connections, too many recipients
	Greylisted        // a stranger's first visit
	Auth              // a login or TLS is asked for
	Protocol          // the servers do not understand each other
	Network           // no connection, no DNS
	Loop              // the message goes in circles
	classes
)

// A Side is who can mend it.
type Side uint8

// The sides.
const (
	SideUnknown   Side = iota // it cannot be told
	SideSender                // who wrote the message
	SideRecipient             // whose mailbox it is
	SideProvider              // who runs the recipient's server
	SideOurs                  // who runs this server
	SideNetwork               // what lies between the servers
)

// String returns the side in a word or two.
func (s Side) String() string {
	switch s {
	case SideSender:
		return "sender"
	case SideRecipient:
		return "recipient"
	case SideProvider:
		return "recipient's provider"
	case SideOurs:
		return "our server"
	case SideNetwork:
		return "network"
	case SideUnknown:
	}
	return "unknown"
}

type fact struct {
	name string
	side Side
	what string // what is so
	do   string // what to do
}

// facts is what people are told of a class; the sentences speak to the sender.
var facts = [classes]fact{
	Unknown: {
		"unknown", SideUnknown, "The recipient's server did not take the message and gave no reason that we know.",
		"Read its answer below; the recipient's mail provider can say what it means.",
	},
	BadAddress: {
		"bad_address", SideSender, "There is no mailbox with this address.",
		"Check the address for typing mistakes, or ask the recipient in another way for the right one.",
	},
	BadDomain: {
		"bad_domain", SideSender, "The part of the address after the @ does not exist or takes no mail.",
		"Check it for typing mistakes, or ask the recipient in another way for the right address.",
	},
	MailboxFull: {
		"mailbox_full", SideRecipient, "The recipient's mailbox is full.",
		"Tell the recipient in another way, and send the message again when there is room.",
	},
	MailboxOff: {
		"mailbox_off", SideRecipient, "The recipient's mailbox exists but is switched off.",
		"Ask the recipient in another way for an address that is in use.",
	},
	TooLarge: {
		"too_large", SideSender, "The message is larger than the recipient's server takes.",
		"Send it with smaller attachments, or put the files where the recipient can fetch them.",
	},
	Policy: {
		"policy", SideProvider, "The recipient's server does not want this message, for what is in it or for who it seems to come from.",
		"Send it again without links and attachments, or ask the recipient to allow your address.",
	},
	Reputation: {
		"reputation", SideOurs, "The recipient's server takes no mail from our server's address.",
		"Forward this notice to your postmaster: the answer below says who to ask to lift it.",
	},
	Rate: {
		"rate", SideOurs, "The recipient's server was sent more at once than it takes.",
		"Send to fewer people at once, and again after some hours; if it goes on, tell your postmaster.",
	},
	Greylisted: {
		"greylisted", SideProvider, "The recipient's server lets the first message of a stranger wait.",
		"Nothing: it is taken at a later attempt.",
	},
	Auth: {
		"auth", SideOurs, "The recipient's server asks for a login or for encryption that could not be agreed on.",
		"Forward this notice to your postmaster.",
	},
	Protocol: {
		"protocol", SideOurs, "The recipient's server and ours did not understand each other.",
		"Forward this notice to your postmaster.",
	},
	Network: {
		"network", SideNetwork, "The recipient's server could not be reached.",
		"Send the message again later; if it goes on, tell the recipient in another way that their server does not answer.",
	},
	Loop: {
		"loop", SideProvider, "The message goes in circles between servers.",
		"Tell the recipient in another way: a forwarding rule on their side leads back to itself.",
	},
}

// String returns the name of the class, as it stands in replies.tsv.
func (c Class) String() string { return c.facts().name }

// Side returns who can mend it.
func (c Class) Side() Side { return c.facts().side }

// What returns one sentence that says what is so.
func (c Class) What() string { return c.facts().what }

// Advice returns one sentence that tells the sender what to do.
func (c Class) Advice() string { return c.facts().do }

func (c Class) facts() fact {
	if c >= classes {
		c = Unknown
	}
	return facts[c]
}
