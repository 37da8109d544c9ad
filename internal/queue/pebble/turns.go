package pebble

import "postern/internal/queue"

// end takes a lease back without touching its unit's place.
func (x *index) end(l *lease) {
	x.ending.remove(l.at)
	delete(x.leases, l.token)
	l.unit.entry.kept = nil
	l.unit.lease = nil
	l.unit.to.active--
}

// giveBack ends a lease and lets its unit wait as before.
func (x *index) giveBack(l *lease) {
	u := l.unit
	x.end(l)
	if u.entry.state != queue.Held && !u.held {
		x.enqueue(u)
	}
	x.count(u.entry)
}

// expire takes back what ended by now.
func (x *index) expire(now int64) {
	for {
		l, ok := x.ending.top()
		if !ok || l.until > now {
			return
		}
		x.giveBack(l)
	}
}

// lease chooses what a may have.
func (x *index) lease(a queue.Ask) []*lease {
	now := nanos(a.Now)
	x.expire(now)
	for {
		d, ok := x.sleep.top()
		if !ok {
			break
		}
		if next, _ := d.next(); next > now {
			break
		}
		x.sleep.remove(d.at)
		d.at, d.ready = -1, true
		x.ready.push(d)
	}
	var given []*lease
	var aside []*destination
	only, except := setOf(a.Only), setOf(a.Except)
	taken := map[*destination]int{}
	for len(given) < a.Max {
		d, ok := x.ready.pop()
		if !ok {
			break
		}
		if except[d.name] || only != nil && !only[d.name] || a.Each > 0 && taken[d] >= a.Each {
			aside = append(aside, d)
			continue
		}
		u := d.pick(now)
		if u == nil {
			x.rest(d)
			continue
		}
		d.waits[u.lane].remove(int(u.at))
		u.at = -1
		x.token++
		l := &lease{token: x.token, unit: u, until: nanos(a.Until)}
		x.out(l)
		taken[d]++
		given = append(given, l)
		x.ready.push(d)
	}
	for _, d := range aside {
		x.ready.push(d)
	}
	return given
}

func setOf(names []string) map[string]bool {
	if len(names) == 0 {
		return nil
	}
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// rest takes a destination out of the ring.
func (x *index) rest(d *destination) {
	d.ready = false
	if len(d.units) == 0 {
		delete(x.to, d.name)
	}
	x.seat(d)
}

// next returns when something is due that does not go to one of except.
func (x *index) next(except []string) (int64, bool) {
	first, ok := int64(0), false
	sooner := func(n int64) {
		if !ok || n < first {
			first, ok = n, true
		}
	}
	if len(except) == 0 && x.ready.len() == 0 {
		if d, any := x.sleep.top(); any {
			n, _ := d.next()
			sooner(n)
		}
	} else {
		not := setOf(except)
		for _, d := range x.to {
			if n, waits := d.next(); waits && !not[d.name] {
				sooner(n)
			}
		}
	}
	if l, any := x.ending.top(); any {
		sooner(l.until)
	}
	return first, ok
}

// adopt takes over the leases of the index before: what is being delivered
// while the store is opened again is not given out a second time.
func (x *index) adopt(old *index) {
	x.token = old.token
	for _, l := range old.leases {
		e := x.entries[l.unit.entry.key]
		if e == nil {
			continue
		}
		for u := range e.units {
			if u.to.name == l.unit.to.name && !u.held {
				x.unqueue(u)
				x.out(&lease{token: l.token, unit: u, until: l.until, which: l.which})
			}
		}
	}
}

// out enters a lease.
func (x *index) out(l *lease) {
	l.unit.lease = l
	x.leases[l.token] = l
	x.ending.push(l)
	l.unit.to.active++
	x.count(l.unit.entry)
}
