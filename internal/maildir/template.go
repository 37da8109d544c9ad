package maildir

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"postern/mail"
)

// A Template says in which folder the mail of a recipient goes: an absolute
// path in which {local} and {domain} stand for the parts of the address. The
// zero Template is none.
type Template struct {
	base  string   // the folder above the first part with a placeholder; it must exist
	parts []string // below it
}

// ParseTemplate reads a template, as "/var/mail/{domain}/{local}/Maildir" or
// a path without placeholders.
func ParseTemplate(s string) (Template, error) {
	switch {
	case !path.IsAbs(s):
		return Template{}, fmt.Errorf("maildir %q: not an absolute path; begin it with /", s)
	case path.Clean(s) != strings.TrimSuffix(s, "/") || strings.ContainsAny(s, "\x00\n"):
		return Template{}, fmt.Errorf("maildir %q: a path has no empty part, no . and no ..; write %q", s, path.Clean(s))
	}
	parts := strings.Split(strings.TrimPrefix(path.Clean(s), "/"), "/")
	first := len(parts) - 1
	for i := len(parts) - 1; i >= 0; i-- {
		bare := strings.NewReplacer("{local}", "", "{domain}", "").Replace(parts[i])
		if strings.ContainsAny(bare, "{}") {
			return Template{}, fmt.Errorf("maildir %q: unknown placeholder in %q; there are {local} and {domain}", s, parts[i])
		}
		if bare == parts[i] {
			continue
		}
		first = i
		if n := strings.Count(parts[i], "{"); n > 1 && parts[i] != "{local}@{domain}" {
			// a-b of c.example would share a folder with a of b-c.example.
			return Template{}, fmt.Errorf("maildir %q: two recipients could share the folder %q; write {local}@{domain}, or a / between", s, parts[i])
		}
	}
	t := Template{base: "/" + strings.Join(parts[:first], "/"), parts: parts[first:]}
	if t.base == "/" {
		return Template{}, fmt.Errorf("maildir %q: needs a folder of its own above it; write it as /var/mail%s", s, s)
	}
	return t, nil
}

// String returns the template as it was written.
func (t Template) String() string {
	if t.base == "" {
		return ""
	}
	return t.base + "/" + strings.Join(t.parts, "/")
}

var (
	safeLocal  = regexp.MustCompile(`^[a-z0-9_+-][a-z0-9._+-]*$`)
	safeDomain = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
)

// folder returns the folder of a recipient, below the base. What stands behind
// the separator is not part of it. An address of which a folder cannot safely
// be made is refused for good.
func (t Template) folder(to mail.ForwardPath, separator string) (string, error) {
	local := strings.ToLower(to.Address().Local())
	if separator != "" {
		local, _, _ = strings.Cut(local, separator)
	}
	domain := to.Address().Domain().ASCII()
	parts := make([]string, len(t.parts))
	for i, p := range t.parts {
		if strings.Contains(p, "{local}") && !safeLocal.MatchString(local) ||
			strings.Contains(p, "{domain}") && !safeDomain.MatchString(domain) {
			return "", refuse(fmt.Errorf("%w for %s: no folder can have such a name", errNoMailbox, to))
		}
		parts[i] = strings.NewReplacer("{local}", local, "{domain}", domain).Replace(p)
	}
	return path.Join(parts...), nil
}
