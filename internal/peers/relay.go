package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Password is anna's at every relay of ours. It opens nothing outside such a world.
const Password = "plum-lantern-heron-83x"

// relayHead is what our relay's configurations share: the domain and the mailboxes that the other
// servers have, and limits that do not turn a battery away.
const relayHead = `hostname = "mx.victim.example"
state = "/var/lib/postern"

listener "mx" { port = 25 }
listener "submission" { port = 587 }
listener "submissions" { port = 465 }

domain "victim.example" {
  recipients = ["anna", "postmaster"]
  deliver = "hold"
}

user "anna" { may_send_as = ["*@victim.example"] }

route "default" { via = "hold" }

limits {
  connections_per_client = 200
  new_connections = "100000/m"
  stranger_messages = "100000000/m"
  stranger_recipients = "100000000/m"
  stranger_bytes = "100TiB/m"
  unknown_recipients = 200
  errors = 200
  greet_pause = "0s"
}
`

// relayStart runs our relay as its manual says: with a configuration, and a user whose password
// comes in by standard input.
const relayStart = `
mkdir -p /var/lib
printf '%s\n' '` + Password + `' | /run/peers/postern user add anna --password-stdin --config /etc/postern/postern.hcl
/run/peers/postern serve --config /etc/postern/postern.hcl &
`

// relay makes the set-up of our own relay; more is added to its configuration, which listens on
// ports.
func relay(more string, ports ...string) func() setup {
	return func() setup {
		return setup{
			root:    "tools",
			files:   map[string]string{"etc/postern/postern.hcl": relayHead + more},
			start:   relayStart,
			ports:   append([]string{"25", "587", "465"}, ports...),
			postern: true,
		}
	}
}

const (
	// relayTrusted trusts a device that is not the tester.
	relayTrusted = `
listener "trusted" { port = 2526 }
trusted_client "scanner" {
  address = "203.0.113.44"
  may_send_as = ["*@victim.example"]
}
`
	// relayProxied takes the tester for a balancer: what it says of its client's address is believed,
	// and makes nobody more than a stranger.
	relayProxied = `
listener "behind" {
  role = "mx"
  port = 2525
  proxy_from = ["192.0.2.66"]
}
`
)

var posternCases = []Case{
	{
		Server: "postern", Config: "closed", What: "mx 25, submission 587, submissions 465",
		Want: "closed", Family: "4", Knock: plain, setup: relay(""),
	},
	{
		Server: "postern", Config: "closed-six", What: "the same, over IPv6",
		Want: "closed", Family: "6", Knock: plain, setup: relay(""),
	},
	{
		Server: "postern", Config: "closed-trusted", What: "and a trusted client on 2526, which the stranger is not",
		Want: "closed", Family: "4",
		// By hand: the auditor cannot judge recipients where it is refused as a client.
		Knock: Knock{Port: "2526", From: "stranger@far.example", To: []string{"{foreign}"}},
		Flags: []string{"--port", "25,465,587"},
		setup: relay(relayTrusted, "2526"),
	},
	{
		Server: "postern", Config: "closed-proxied", What: "and the stranger sits where a balancer is expected, on 2525",
		Want: "closed", Family: "4", Flags: []string{"--port", "25,465,587,2525"},
		Knock: Knock{Port: "2525", Preamble: "PROXY TCP4 198.51.100.7 203.0.113.10 4444 2525\r\n", From: "stranger@far.example", To: []string{"{foreign}"}},
		setup: relay(relayProxied, "2525"),
	},
}

// program is our own binary as it ships, built once in a process: it runs in worlds that have
// nothing of this machine.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "postern-build")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "postern")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-buildvcs=false", "-o", file, "postern/cmd/postern")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build postern/cmd/postern: %w\n%s", err, out)
	}
	return os.ReadFile(file)
})

// writeProgram puts our binary into a folder.
func writeProgram(dir string) (string, error) {
	b, err := program()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "postern")
	return file, os.WriteFile(file, b, 0o755)
}
