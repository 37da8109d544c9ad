package policy

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/policy.md anew")

// demands are what a relay must keep to stay closed, where it is kept, and the
// test that fails when it is not. A demand without a test says so.
var demands = []struct{ what, where, test string }{
	{"A recipient passes for one of three reasons, each a value that only this package makes", "policy/grant.go", "TestSampleIsProvedClosed"},
	{"All client addresses fall into finitely many classes, and each class is tried", "policy/classes.go", "TestClassesSpeakForTheirAddresses"},
	{"A trusted network is narrow; some are never trusted", "policy/trust.go", "TestTrustedNetworks"},
	{"The road that everybody arrives by, a gateway or a bridge, is not trusted", "policy/trust.go, internal/machine", "TestGatewayThatMovesIntoATrustedNetwork"},
	{"One address with many names in EHLO loses its trust", "guard/witness.go", "TestLostClientAddresses"},
	{"A trusted client that turns out to be a forwarder loses its trust, by signs that add up", "guard/witness.go", "TestForwardersAndCustomers"},
	{"A balancer is no trusted client", "policy/trust.go", "TestBalancerIsNotTrusted"},
	{"PROXY is taken from named hosts, and demanded of them", "guard/forward.go", "TestProxied"},
	{"Whoever a header names is a stranger, and it is tried with every class of them", "serve/audit_proxy.go", "TestSelfAuditBehindAProxy"},
	{"XCLIENT and forwarded identities are taken from nobody", "guard/session.go: no such command", "TestRolesAndCommands"},
	{"An address has one form: a mapped IPv4 address is an IPv4 address", "policy/decide.go", "TestRolesAndCommands"},
	{"Our domains are exact names", "policy/recipient.go", "TestNamesThatAreNotOurs"},
	{"DNS that others control grants nothing", "internal/house/layers.txt: the core has no network", "TestImportsKeepTheRules"},
	{"Sender, EHLO name, headers and size grant nothing", "policy/decide.go: no argument for them", "TestNothingThatAStrangerSaysGrants"},
	{"A local part is opaque; what others read as a route is refused", "policy/compile.go", "TestNoFormOfTheBatteryIsGranted"},
	{"In a domain of ours no local part is a file, an option or an expansion", "policy/compile.go", "TestLocalPartsThatAreMoreThanNames"},
	{"The next hop reads the domain that we judged: ours are handed on in A-labels", "policy/recipient.go", "TestOurDomainsAreHandedOnInALabels"},
	{"One strict parser of addresses, whose output reads as the same", "mail/path.go", "FuzzForwardPath"},
	{"Aliases are resolved before anything is decided, and what was decided is frozen", "policy/alias.go", "TestAliases"},
	{"Forwarding to a foreign domain is written by the domain's owner, bounded, and in our own name", "policy/alias.go", "TestAliases"},
	{"A bounce of what an alias forwards ends with somebody of ours, and is never forwarded with a sender", "policy/alias.go, policy/decide.go", "TestNoticesAreForwardedFromTheNullPath"},
	{"What an alias forwards to foreign addresses is metered, and known when it comes back", "guard/budget.go, guard/received.go", "TestAliasesToForeignAddressesAreMetered"},
	{"A catch-all leads to one mailbox of ours", "policy/compile.go", "TestCatchAll"},
	{"A listener has one role", "policy/source.go", "TestRolesAndCommands"},
	{"A login needs TLS; its identity is the verified name, and dies with HELO and STARTTLS", "internal/identity, smtp/auth.go", "TestRolesAndCommands"},
	{"Who logged in is bound to reverse-path and author", "policy/decide.go, guard/message.go", "TestMessages"},
	{"Guessing is limited by account, network and address, and the right password is not refused for what others did", "internal/identity/guesses.go", "TestTheRightPasswordIsNeverRefusedForWhatOthersDid"},
	{"A token that was made for mail opens no gateway", "policy/gateway.go", "TestEveryPassRuleIsNeeded"},
	{"A notice goes to nobody who is not proven: what can be refused is refused", "internal/deliver/notice.go", "TestNobodyIsWrittenToWhoIsNotProven"},
	{"A grant is stored with its message and decided again", "policy/grant.go, serve/watch.go", "TestGrantsAreDecidedAgain"},
	{"A reload is proved first and whole", "serve/relay.go", "TestReloadIsAtomic"},
	{"What a transaction knew dies with it", "smtp/connection.go", "TestOnlyAWholeTransactionIsStored"},
	{"The next hop is fixed or public", "policy/inside.go, internal/deliver/hosts.go", "TestDelivers"},
	{"Every way in passes the same gate", "internal/queue: Put takes grants", "TestOnlyAWholeTransactionIsStored"},
	{"A refusal comes early and is true", "guard/session.go", "TestRolesAndCommands"},
	{"The proof is an artifact that others verify", "policy/proof.go", "TestProofIsVerifiedByAnother"},
}

func page() string {
	var b strings.Builder
	b.WriteString(`# What is granted, and to whom

A message enters the queue only with a *grant* for each recipient. Package policy alone makes one, for three reasons:

| reason | who | on a listener of role |
| --- | --- | --- |
| authenticated | a user who logged in, with a reverse-path that is theirs | submission, submissions |
| trusted_client | a device, by its narrow address, with a reverse-path that is its own | trusted |
| inbound | anybody, for a mailbox of a domain that is ours | mx |

A grant names the line of the configuration that gave it. It is stored with the message and decided again at each reload, when users change, and before the message leaves; what was lost is held.

## The locks
A grant is made when every rule is silent. The tests take each rule away, one at a time, and the proof must then find somebody who gets through.

| rule | asks | from |
| --- | --- | --- |
`)
	for _, r := range rules {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.name, r.asks, r.source)
	}
	b.WriteString("\n## The proof\n`postern prove` tries every input that these rules can tell apart: listeners, classes of client addresses, TLS, identities, kinds of reverse-path, kinds of forward-path. The classes cover all of IPv4 and IPv6 without gap or overlap, so what holds for each class holds for each address. The result names every class and everything that is granted, and is verified in the tests by a reader that shares no code with the policy.\n\n## What keeps a relay closed\n\n| demand | kept in | shown by |\n| --- | --- | --- |\n")
	for _, d := range demands {
		where, test := d.where, "`"+d.test+"`"
		if d.test == "" {
			where, test = "-", "not yet: it comes with delivery"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", d.what, where, test)
	}
	return b.String()
}

func TestPageIsFresh(t *testing.T) {
	const file = "../docs/policy.md"
	if *update {
		if err := os.WriteFile(file, []byte(page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(file); err != nil || string(have) != page() {
		t.Errorf("docs/policy.md is stale (%v); write it anew with: go test ./policy -update", err)
	}
	for _, d := range demands {
		if d.test == "" {
			continue
		}
		if out, err := exec.CommandContext(t.Context(), "grep", "-rlE", "--include=*_test.go", "^func "+d.test+`\(`, "..").Output(); err != nil || len(out) == 0 {
			t.Errorf("no test is called %s", d.test)
		}
	}
}
