package remedy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A fingerprint is one sign by which a software is told.
type fingerprint struct {
	software string
	where    where
	pattern  *regexp.Regexp
	weight   int
	source   string
}

// where a sign is looked for.
type where string

const (
	inBanner   where = "banner"   // the greeting, which an administrator may change
	inHello    where = "ehlo"     // the answer to EHLO: its words and the order of its extensions
	inRefusal  where = "refusal"  // replies of class 4 and 5 to the forms
	inAccepted where = "accepted" // the reply to the end of a message
	inReceived where = "received" // the trace field that the server added
	inProxy    where = "proxy"    // the fields of a web proxy's answers
)

// words says where for a person.
var words = map[where]string{
	inBanner: "its greeting", inHello: "its answer to EHLO", inRefusal: "its refusals",
	inAccepted: "its answer to the message", inReceived: "the trace field it adds", inProxy: "its answers",
}

// parseFingerprints reads the table: software, where, pattern, weight, source.
// A pattern between slashes is a regular expression, any other stands for itself.
func parseFingerprints(file, text string, software map[string]manual) ([]fingerprint, error) {
	var list []fingerprint
	var errs []error
	for i, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f, err := parseFingerprint(strings.Split(line, "\t"))
		if _, ok := software[f.software]; err == nil && !ok {
			err = fmt.Errorf("there is no %s.md", f.software)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file, i+1, err))
			continue
		}
		list = append(list, f)
	}
	return list, errors.Join(errs...)
}

func parseFingerprint(cells []string) (fingerprint, error) {
	if len(cells) != 5 {
		return fingerprint{}, fmt.Errorf("%d cells; a fingerprint has 5: software, where, pattern, weight, source", len(cells))
	}
	f := fingerprint{software: cells[0], where: where(cells[1]), source: cells[4]}
	if words[f.where] == "" {
		return f, fmt.Errorf("unknown place %q; the places are banner, ehlo, refusal, accepted, received, proxy", cells[1])
	}
	text := regexp.QuoteMeta(cells[2])
	if n := len(cells[2]); n > 2 && cells[2][0] == '/' && cells[2][n-1] == '/' {
		text = cells[2][1 : n-1]
	}
	var err error
	if f.pattern, err = regexp.Compile(text); err != nil {
		return f, err
	}
	if f.pattern.MatchString("") {
		return f, fmt.Errorf("pattern %q matches everything", cells[2])
	}
	if f.weight, err = strconv.Atoi(cells[3]); err != nil || f.weight < 1 || f.weight > 9 {
		return f, fmt.Errorf("weight %q; a weight is a number from 1 to 9", cells[3])
	}
	if f.source == "" {
		return f, errors.New("a fingerprint needs a source")
	}
	return f, nil
}
