package deliver

import (
	"testing"

	"postern/internal/problem"
	"postern/policy"
	"postern/smtp"
)

// DefaultEach is the limit of one destination.
var DefaultEach = Limits{}.withDefaults().Each

func smtp1() smtp.Limits { return smtp.Limits{Recipients: 1} }

func compiled(t *testing.T, s policy.Source) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(s)
	if fatal, _ := problem.Split(err); fatal != nil {
		t.Fatal(fatal)
	}
	return p
}
