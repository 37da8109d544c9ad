package peers

import "slices"

// Cases is every configuration that there is, server by server.
var Cases = slices.Concat(postfixCases, eximCases, opensmtpdCases, sendmailCases, judgedCases, posternCases)

// What a knock says, for the holes that many servers share.
var (
	plain       = Knock{From: "stranger@far.example", To: []string{"{foreign}"}}
	localSender = Knock{From: "postmaster@" + Domain, To: []string{"{foreign}"}}
	backupMX    = Knock{From: "stranger@far.example", To: []string{"{backup}"}}
	secondHop   = Knock{From: "stranger@far.example", To: []string{"{user}%" + Collector + "@" + Partner}}
	percentHack = Knock{From: "stranger@far.example", To: []string{"{user}%" + Collector + "@" + Domain}}
	heloTrust   = Knock{Helo: Domain, From: "stranger@far.example", To: []string{"{foreign}"}}
)

// unhurried is the auditor's default, for servers that count connections.
var unhurried = []string{"--pace", "1s"}

// relaying is what the owner of a second hop says.
var relaying = []string{"--relay-domain", Partner}
