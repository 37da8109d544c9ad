package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern/guard"
	"postern/internal/identity"
	"postern/internal/problem"
	"postern/mail"
	"postern/policy"
	"postern/serve"
)

// blocks are what a file may hold. One more: a file of its own, and a row here.
var blocks = []*block{&listenerBlock, &tlsBlock, &domainBlock, &userBlock, &trustedBlock, &routeBlock, &gatewayBlock, &deliveryBlock, &limitsBlock, &trafficBlock, &auditBlock, &traceBlock, &metricsBlock, &logBlock, &storageBlock}

// top are the words outside of any block.
var top = block{name: "the file", words: []word{
	{"hostname", "text", "", "the name of this host: in the banner, in EHLO and in trace fields"},
	{"state", "text", "the XDG state folder", "the folder of the queue, the users and the certificate"},
	{"login_methods", "list", "all", "how users may log in: " + strings.Join(identity.MechanismNames(), ", ") + "; gateways need PLAIN"},
	{"resolver", "text", "those of /etc/resolv.conf", "the DNS server that is asked, as 127.0.0.1:53"},
}}

// A reader reads one file.
type reader struct {
	path     string
	settings serve.Settings
	problems []error
	seen     map[string]bool
	hash     hash.Hash
}

func (r *reader) stop(at problem.Pos, what, do string) {
	r.problems = append(r.problems, problem.At(at, what, do))
}

// name is how a file is called in messages: as the person called it.
func (r *reader) name(string) string { return r.path }

// Load reads and checks a configuration. The error joins all of its problems,
// in the order of the file; warnings are among them only when one stops.
func Load(path string) (serve.Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return serve.Settings{}, problem.At(problem.Pos{File: path}, "the configuration cannot be read: "+errors.Unwrap(err).Error(), "name a file that this user can read; postern init writes one")
	}
	return Read(path, text)
}

// Read reads the text of a configuration that is called path.
func Read(path string, text []byte) (serve.Settings, error) {
	r := &reader{path: path, seen: map[string]bool{}, hash: sha256.New(), settings: serve.Settings{
		File: path, Hops: map[string]serve.NextHop{}, Guard: guard.DefaultLimits, Audit: serve.Audit{Every: 6 * time.Hour}, Log: serve.Log{Level: "info"},
	}}
	r.settings.Guard.Pause = 500 * time.Millisecond
	r.settings.Guard.Clients = map[string]guard.Rate{}
	_, _ = r.hash.Write(text) // never fails
	file, diags := hclparse.NewParser().ParseHCL(text, path)
	for _, d := range diags {
		at := problem.Pos{File: path}
		if d.Subject != nil {
			at = r.pos(*d.Subject)
		}
		r.stop(at, firstLine(d.Summary), firstLine(d.Detail))
	}
	if diags.HasErrors() || file == nil {
		return serve.Settings{}, errors.Join(r.problems...)
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return serve.Settings{}, problem.At(problem.Pos{File: path}, "no HCL of native syntax", "write it as the reference shows")
	}
	r.file(body)
	return r.finish()
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.TrimSuffix(s, ".")
}

func (r *reader) file(body *hclsyntax.Body) {
	known := top
	known.in = blocks
	r.words(&known, body)
	s := section{r: r, block: &known, body: body, at: problem.Pos{File: r.path, Line: 1}}
	if v, ok := s.text("hostname"); ok {
		d, err := mail.ParseDomain(v.text)
		if err != nil || d.IsLiteral() || !strings.Contains(d.ASCII(), ".") {
			r.stop(v.at, fmt.Sprintf("hostname %q is no full name of a host", v.text), `write hostname = "mx.example.org"`)
		}
		r.settings.Policy.Hostname = d
	} else if body.Attributes["hostname"] == nil {
		r.stop(s.at, "hostname is missing", `write hostname = "mx.example.org"`)
	}
	if v, ok := s.text("state"); ok {
		if !filepath.IsAbs(v.text) {
			r.stop(v.at, fmt.Sprintf("state %q is no absolute path", v.text), `write state = "/var/lib/postern"`)
		} else {
			r.settings.State = v.text
		}
	}
	for _, v := range s.texts("login_methods") {
		if name := strings.ToUpper(v.text); slices.Contains(identity.MechanismNames(), name) {
			r.settings.Methods = append(r.settings.Methods, name)
		} else {
			r.stop(v.at, fmt.Sprintf("login_methods: we have no %q", v.text), "choose from "+strings.Join(identity.MechanismNames(), ", "))
		}
	}
	if v, ok := s.text("resolver"); ok {
		a, err := netip.ParseAddrPort(v.text)
		if err != nil {
			r.stop(v.at, fmt.Sprintf("resolver %q is no address and port", v.text), `write resolver = "127.0.0.1:53"`)
		}
		r.settings.Resolver = a
	}
	for _, b := range blocks {
		for _, h := range body.Blocks {
			if h.Type == b.name {
				r.section(b, h)
			}
		}
	}
}

// finish compiles what was read, so that the policy's problems are told in the
// same run.
func (r *reader) finish() (serve.Settings, error) {
	s := &r.settings
	s.Policy.Hash = hex.EncodeToString(r.hash.Sum(nil))[:12]
	if len(s.Listeners) == 0 && !r.seen["listener"] {
		r.stop(problem.Pos{File: r.path, Line: 1}, "there is no listener", `write listener "mx" { port = 25 }`)
	}
	if !slices.ContainsFunc(s.Routes, func(route serve.Route) bool { return route.Domain == "default" }) {
		s.Hold = "outgoing mail waits: no route \"default\" says how it leaves"
	}
	if _, err := policy.Compile(s.Policy); err != nil && !s.Policy.Hostname.IsZero() {
		if fatal, _ := problem.Split(err); fatal != nil {
			r.problems = append(r.problems, fatal)
		}
	}
	if err := errors.Join(r.problems...); err != nil {
		all := problem.All(err)
		slices.SortStableFunc(all, func(a, b *problem.Problem) int {
			if a.At.File != b.At.File {
				return 0
			}
			return a.At.Line - b.At.Line
		})
		errs := make([]error, 0, len(all))
		for _, p := range all {
			errs = append(errs, p)
		}
		// Where the state is, is known all the same: who mends a mistake can look meanwhile.
		return serve.Settings{State: s.State}, errors.Join(errs...)
	}
	return *s, nil
}
