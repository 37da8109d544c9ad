package report

import (
	"encoding/json"
	"io"
	"net/netip"
	"time"

	"postern/door"
	"postern/remedy"
	"postern/verdict"
)

// The JSON form, version 1; docs/report.schema.json describes it. Fields are
// added, never changed or taken away.
type (
	jsonReport struct {
		Version     int             `json:"postern_report"`
		Target      jsonTarget      `json:"target"`
		Verdict     verdict.Verdict `json:"verdict"`
		Kind        verdict.Kind    `json:"kind"`
		Doors       []jsonDoor      `json:"doors"`
		Shut        []uint16        `json:"shut"`
		Proof       *jsonProof      `json:"proof"`
		Tested      float64         `json:"tested"`
		Backscatter bool            `json:"backscatter"`
		Why         string          `json:"why"`
		Do          string          `json:"do,omitempty"`
		Remedy      []jsonStep      `json:"remedy"`
		Listings    []struct{}      `json:"listings"`
		Started     time.Time       `json:"started"`
		Seconds     float64         `json:"seconds"`
		Addresses   []jsonAddress   `json:"addresses,omitempty"`
	}
	jsonTarget struct {
		Given   string `json:"given"`
		Host    string `json:"host"`
		Address string `json:"address"`
		Port    uint16 `json:"port"`
	}
	jsonAddress struct {
		Address netip.Addr      `json:"address"`
		Verdict verdict.Verdict `json:"verdict"`
	}
	jsonDoor struct {
		Door     door.Door       `json:"door"`
		Port     uint16          `json:"port"`
		Verdict  verdict.Verdict `json:"verdict"`
		Why      string          `json:"why"`
		Software string          `json:"software"`
		Sure     bool            `json:"software_sure"`
		Banner   string          `json:"banner"`
		TLS      string          `json:"tls,omitempty"`
		CatchAll bool            `json:"catch_all"`
		Other    bool            `json:"open_to_other_ports,omitempty"`
		Certain  verdict.Sure    `json:"sure,omitempty"`
		Logins   string          `json:"logins,omitempty"`
		Tested   float64         `json:"tested"`
		Battery  jsonBattery     `json:"battery"`
		Missing  string          `json:"no_postmaster,omitempty"`
		Forms    []jsonForm      `json:"forms"`
	}
	jsonBattery struct {
		All      int `json:"forms"`
		Tested   int `json:"tested"`
		Untested int `json:"untested"`
		LeftOut  int `json:"left_out"`
		NotAsked int `json:"not_asked_for"`
	}
	jsonForm struct {
		Form        string        `json:"form"`
		State       verdict.State `json:"state"`
		Stage       verdict.Stage `json:"stage,omitempty"`
		Reply       string        `json:"reply,omitempty"`
		Reason      string        `json:"reason,omitempty"`
		Sender      string        `json:"sender"`
		AddressForm string        `json:"address_form"`
		Place       string        `json:"place,omitempty"`
		Answer      string        `json:"answer,omitempty"`
		Transcript  string        `json:"transcript,omitempty"`
		Login       string        `json:"login,omitempty"`
		Tried       string        `json:"tried,omitempty"`
	}
	jsonProof struct {
		Form       string    `json:"form"`
		Hole       string    `json:"hole"`
		Token      string    `json:"token"`
		Recipient  string    `json:"recipient"`
		AcceptedAt time.Time `json:"accepted_at"`
		ArrivedAt  time.Time `json:"arrived_at"`
		Egress     string    `json:"egress"`
		EgressName string    `json:"egress_name"`
		SeenBy     string    `json:"seen_by_first_hop"`
		Hops       []jsonHop `json:"hops"`
		Notes      []string  `json:"notes"`

		Kind      verdict.Kind `json:"kind"`
		Sure      verdict.Sure `json:"sure"`
		Guilty    string       `json:"guilty"`
		Listed    string       `json:"listed"`
		AllListed []netip.Addr `json:"all_listed"`
		Lost      bool         `json:"lost_client_address"`
		Smarthost bool         `json:"smarthost"`
		Cascade   bool         `json:"cascade"`
		Nonce     string       `json:"nonce,omitempty"`
		Signs     []jsonSign   `json:"signs"`
	}
	jsonSign struct {
		Sign   string `json:"sign"`
		Weight int    `json:"weight"`
		Text   string `json:"text"`
	}
	jsonHop struct {
		By   string `json:"by"`
		Helo string `json:"helo"`
		From string `json:"from"`
		With string `json:"with"`
	}
	jsonStep struct {
		Text    string `json:"text"`
		Command string `json:"command"`
		Of      string `json:"of,omitempty"`
	}
)

// WriteJSON writes an object on a line of its own for each address of each
// target; with one, for each target the object of its worst address.
func WriteJSON(w io.Writer, reports []Report, one bool) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range reports {
		list := r.objects()
		if one {
			list = r.fold(list)
		}
		for _, o := range list {
			if err := enc.Encode(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// objects returns an object for each address; a target without one has an
// object too, which says why.
func (r Report) objects() []jsonReport {
	var list []jsonReport
	for _, a := range r.Addresses {
		list = append(list, r.object(a))
	}
	if len(list) == 0 {
		list = append(list, r.object(Address{}))
	}
	return list
}

// fold returns the object of the worst address alone, with the verdicts of all.
func (r Report) fold(list []jsonReport) []jsonReport {
	worst := list[0]
	for _, o := range list {
		if o.Verdict.Worse(worst.Verdict) {
			worst = o
		}
	}
	for _, a := range r.Addresses {
		worst.Addresses = append(worst.Addresses, jsonAddress{a.IP, a.Verdict()})
	}
	return []jsonReport{worst}
}

func (r Report) object(a Address) jsonReport {
	o := jsonReport{
		Version: 1, Target: jsonTarget{Given: r.Given, Host: r.Host}, Verdict: a.Verdict(), Kind: verdict.KindSMTP,
		Doors: []jsonDoor{}, Shut: append([]uint16{}, a.Shut...), Remedy: []jsonStep{}, Listings: []struct{}{},
		Started: r.Started, Seconds: r.Took.Seconds(), Why: notTested(r),
	}
	if a.IP.IsValid() {
		o.Target.Address = a.IP.String()
		o.Why = notTested(Report{Addresses: []Address{a}})
	}
	for _, d := range a.Doors {
		o.Doors = append(o.Doors, d.object())
		o.Backscatter = o.Backscatter || d.Backscatter != nil
	}
	worst := a.Worst()
	if worst == nil {
		return o
	}
	o.Target.Port, o.Tested, o.Why, o.Do = worst.Addr.Port(), worst.Tested, worst.Why, worst.Do
	if worst.Proof != nil {
		o.Kind, o.Proof = worst.Proof.Kind, proofObject(worst.Proof)
	}
	for _, s := range remedy.For(worst.Judgement, r.again(TextOptions{})) {
		o.Remedy = append(o.Remedy, jsonStep(s))
	}
	return o
}

func (d Door) object() jsonDoor {
	s := remedy.Identify(d.Judgement)
	o := jsonDoor{
		Door: d.Door, Port: d.Addr.Port(), Verdict: d.Verdict, Why: d.Why, Software: s.Name, Sure: s.Sure,
		Banner: d.Session.Banner.Text(), TLS: d.Session.TLS, CatchAll: d.CatchAll, Other: d.Elsewhere != nil, Tested: d.Tested, Forms: []jsonForm{},
		Logins: logins(&d), Certain: d.Sure, Battery: jsonBattery(d.Battery), Missing: d.NoPostmaster(),
	}
	for _, f := range d.Forms {
		form := jsonForm{
			Form: f.Form.ID, State: f.State, Stage: f.Stage, Reply: f.Reply.String(), Reason: f.Reason,
			Sender: f.Envelope.Sender, AddressForm: f.Envelope.Recipient, Login: f.Login, Tried: f.Tried,
		}
		if d.Door == door.SOCKS || d.Door == door.Connect {
			form.Place, form.Answer, form.Reply = f.Envelope.MoveArg, string(f.Answer), f.Words()
		}
		// Of what was refused the reply says all; the conversation is for what
		// passed, where every byte may matter.
		switch f.State {
		case verdict.Arrived, verdict.Accepted, verdict.Bounced:
			form.Transcript = f.Transcript.String()
		case verdict.Refused, verdict.Local, verdict.Untested, verdict.Noted:
		}
		o.Forms = append(o.Forms, form)
	}
	return o
}

func proofObject(p *verdict.Proof) *jsonProof {
	o := &jsonProof{
		Form: p.Form.ID, Hole: p.Form.Hole, Token: string(p.Token), Recipient: p.Arrival.ForwardPath,
		AcceptedAt: p.AcceptedAt(), ArrivedAt: p.Arrival.At, Egress: p.Egress.String(), EgressName: p.EgressName,
		Hops: []jsonHop{}, Notes: append([]string{}, p.Notes...),
		Kind: p.Kind, Sure: p.Sure, Guilty: p.Guilty.String(), Listed: p.Listed.String(), AllListed: append([]netip.Addr{}, p.AllListed...), Lost: p.Lost, Smarthost: p.Smarthost, Cascade: p.Cascade,
		Nonce: p.Arrival.Nonce, Signs: []jsonSign{},
	}
	for _, s := range p.Signs {
		o.Signs = append(o.Signs, jsonSign{s.Name, s.Weight, s.Text})
	}
	if p.SeenFrom.IsValid() {
		o.SeenBy = p.SeenFrom.String()
	}
	for _, h := range p.Hops {
		hop := jsonHop{By: h.By, Helo: h.From, With: h.With}
		if h.IP.IsValid() {
			hop.From = h.IP.String()
		}
		o.Hops = append(o.Hops, hop)
	}
	return o
}
