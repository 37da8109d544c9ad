package report

import (
	"slices"

	"postern/verdict"
)

// Summary returns the report without the conversations that no document about
// many targets shows: those of forms that did not pass. They are nearly all of
// its size.
func (r Report) Summary() Report {
	r.Addresses = slices.Clone(r.Addresses)
	for i := range r.Addresses {
		doors := slices.Clone(r.Addresses[i].Doors)
		for k := range doors {
			doors[k].Judgement = summary(doors[k].Judgement)
		}
		r.Addresses[i].Doors = doors
	}
	return r
}

func summary(j verdict.Judgement) verdict.Judgement {
	j.Exchanges = slices.Clone(j.Exchanges)
	for i := range j.Exchanges {
		j.Exchanges[i].Transcript = nil
	}
	j.Forms = slices.Clone(j.Forms)
	for i, f := range j.Forms {
		if f.State != verdict.Arrived && f.State != verdict.Accepted {
			j.Forms[i].Transcript = nil
		}
	}
	return j
}
