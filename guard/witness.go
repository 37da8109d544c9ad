package guard

import (
	"fmt"
	"strings"
	"sync"
)

// A Witness watches trusted clients for the sign of a lost client address:
// behind a proxy or a translator everybody comes from one address, and one
// address then greets with many names. Trust in it is withdrawn until the
// operator has looked. The zero Witness is ready, and safe for concurrent use.
type Witness struct {
	mu    sync.Mutex
	names map[string]map[string]bool // by trusted client and address: the EHLO names seen
	why   map[string]string          // by trusted client: why trust was withdrawn
}

// MaxHeloNames is how many EHLO names one trusted address may use. A device
// has one, and a second one after it was renamed; the third is somebody else.
const MaxHeloNames = 2

// maxWitnessed bounds how many addresses of trusted networks are remembered.
const maxWitnessed = 10_000

// Greets notes an EHLO name and reports whether it withdrew trust just now.
func (w *Witness) Greets(client, addr, name string) (why string, now bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why[client] != "" {
		return w.why[client], false
	}
	if w.names == nil {
		w.names = map[string]map[string]bool{}
	}
	key := client + " " + addr
	if w.names[key] == nil {
		if len(w.names) >= maxWitnessed {
			clear(w.names)
		}
		w.names[key] = map[string]bool{}
	}
	w.names[key][strings.ToLower(name)] = true
	if len(w.names[key]) <= MaxHeloNames {
		return "", false
	}
	why = fmt.Sprintf("%s greeted with more than %d names: other clients hide behind that address", addr, MaxHeloNames)
	w.withdraw(client, why)
	return why, true
}

// Withdraw withdraws trust in a client; it reports whether it was trusted so far.
func (w *Witness) Withdraw(client, why string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why[client] != "" {
		return false
	}
	w.withdraw(client, why)
	return true
}

func (w *Witness) withdraw(client, why string) {
	if w.why == nil {
		w.why = map[string]string{}
	}
	w.why[client] = why
}

// Suspended returns why trust in a client was withdrawn, or "".
func (w *Witness) Suspended(client string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why[client]
}

// Restore trusts everybody again that the configuration trusts: the operator
// has looked.
func (w *Witness) Restore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.why)
	clear(w.names)
}
