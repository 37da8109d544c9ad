package deliver

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"postern/internal/bounce"
)

var update = flag.Bool("update", false, "write docs/delivery.md anew")

// TestPageIsTrue fills the numbers of the code into docs/delivery.md.
func TestPageIsTrue(t *testing.T) {
	template, err := os.ReadFile("testdata/delivery.md")
	if err != nil {
		t.Fatal(err)
	}
	l, limits := DefaultLifetimes, Limits{}.withDefaults()
	var classes []string
	for c := bounce.Unknown + 1; c <= bounce.Loop; c++ {
		classes = append(classes, "`"+c.String()+"`")
	}
	page := strings.NewReplacer(
		"{{schedule}}", fmt.Sprintf("A message that is not taken is tried again after %s and then every %s, a fifth more or less, so that what failed together does not come back together. After %s it comes back (`delivery { lifetime }`); a notice is given up after %s. At most %d deliveries are made at once (`connections`), and %d to one domain (`per_destination`); a domain that is new begins with %d.",
			list(steps[:len(steps)-1]), short(steps[len(steps)-1]), short(l.Message), short(l.Notice), limits.Total, limits.Each, limits.Start),
		"{{blocks}}", list(blocks),
		"{{classes}}", strings.Join(classes, ", "),
	).Replace(string(template))
	const path = "../../docs/delivery.md"
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != page {
		t.Errorf("docs/delivery.md is stale (%v); write it anew with: go test ./internal/deliver -update", err)
	}
}

func short(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d == time.Hour:
		return "1 hour"
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d == time.Minute:
		return "1 minute"
	case d%time.Minute == 0:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}

func list(durations []time.Duration) string {
	var words []string
	for _, d := range durations {
		words = append(words, short(d))
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
