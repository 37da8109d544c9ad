package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"postern/guard"
	"postern/internal/meter"
	"postern/serve"
)

var trafficBlock = block{
	name: "traffic", says: "what mail that leaves costs, how much of it may leave, and who sends more than they are used to",
	words: []word{
		{"price_per_gib", "price", "", "of what leaves, for `postern traffic`, as 0.09 EUR"},
		{"budget", "size a day or month", "", "of all that users and trusted clients send to leave, as 100GiB/month, in days and months of UTC; beyond, it is held"},
		{"budget_per_user", "size a day or month", "", "the same of each user and trusted client"},
		{"soft", "share", "80%", "of a budget, at which a warning is logged"},
		{"breakout", "rate an hour, off", "50/h", "messages of a user who has not sent as many before; who sends more than that, and twice their busiest hour, is held until `postern release` or `postern reject`. Recipients count half"},
	},
	read: func(r *reader, s section) {
		t := &r.settings.Traffic
		if v, ok := s.text("price_per_gib"); ok {
			if t.Price, t.Currency, ok = parsePrice(v.text); !ok {
				r.stop(v.at, fmt.Sprintf("price_per_gib: %q is no price", v.text), `write a number and a currency, as "0.09 EUR"`)
			}
		}
		s.budget("budget", &t.All)
		s.budget("budget_per_user", &t.Each)
		if v, ok := s.text("soft"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(v.text, "%"), 10, 8)
			if err != nil || !strings.HasSuffix(v.text, "%") || n < 1 || n > 100 {
				r.stop(v.at, fmt.Sprintf("soft: %q is no share", v.text), "write it as 80%, from 1% to 100%")
			}
			t.Soft = float64(n) / 100
		}
		if v, ok := s.text("breakout"); ok {
			rate, err := guard.ParseRate(v.text)
			switch {
			case v.text == "off":
				t.Loose = true
			case err != nil || rate.Per != time.Hour:
				r.stop(v.at, fmt.Sprintf("breakout: %q is no rate an hour", v.text), "write it as 50/h, or off")
			default:
				t.Floor = meter.Habit{Messages: rate.N, Recipients: 2 * rate.N}
			}
		}
	},
}

// parsePrice reads "0.09 EUR".
func parsePrice(s string) (price float64, currency string, ok bool) {
	n, currency, ok := strings.Cut(s, " ")
	price, err := strconv.ParseFloat(n, 64)
	// A name of a currency stands in a table on a terminal.
	odd := strings.ContainsFunc(currency, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.Is(unicode.Sc, c) })
	return price, currency, ok && err == nil && price > 0 && price < 1e6 && currency != "" && len(currency) <= 8 && !odd
}

var budgetPeriods = map[string]meter.Period{"day": meter.Daily, "month": meter.Monthly}

func (s section) budget(name string, b *serve.Budget) {
	v, ok := s.text(name)
	if !ok {
		return
	}
	text, unit, _ := strings.Cut(v.text, "/")
	n, sized := parseSize(text)
	per, known := budgetPeriods[unit]
	if !sized || !known {
		s.r.stop(v.at, fmt.Sprintf("%s: %q is no size a day or month", name, v.text), "write it as 100GiB/month, or 5GiB/day")
		return
	}
	*b = serve.Budget{Octets: n, Per: per, Text: v.text}
}
