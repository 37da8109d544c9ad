package queuetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/problem"
	"postern/internal/queue"
)

// The test binary starts itself as a victim: with the queue's folder in this
// variable. It puts and delivers until it is killed, and says on its output
// what was acknowledged, one line each.
const victimEnv = "POSTERN_QUEUETEST_VICTIM"

// kills is how often the victim is killed; more with POSTERN_CRASHES=N.
func kills(t *testing.T) int {
	s := os.Getenv("POSTERN_CRASHES")
	if s == "" {
		return 50
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("POSTERN_CRASHES=%s: %v", s, err)
	}
	return n
}

// victim is the child process. A word and an id a line: "put" after Put
// returned, with the size; "settling" before Settle, "gone" after it.
func victim(e Engine, dir string) {
	q, err := e.Open(nil, dir, Options{Report: func(err error) {
		if fatal, _ := problem.Split(err); fatal != nil {
			fmt.Println("report", err)
		}
	}})
	if err != nil {
		fmt.Println("report", err)
		return
	}
	fmt.Println("ready")
	ctx := context.Background()
	var clients sync.WaitGroup
	say := func(err error) {
		if err != nil {
			fmt.Println("report", err)
		}
	}
	for c := range 8 {
		clients.Go(func() {
			for i := 0; ; i++ {
				size := sizes[(c+i)%len(sizes)]
				l := NewLetter(noon, "<a@ours.example>", "<b@far.example>", "<c@near.example>")
				_, err := q.Put(ctx, l, strings.NewReader(string(Text(uint64(size), size))))
				say(err)
				fmt.Println("put", l.ID, size)
			}
		})
	}
	for range 3 {
		clients.Go(func() {
			for {
				list, err := q.Lease(ctx, queue.Ask{Owner: "v", Now: noon, Until: noon.Add(time.Hour), Max: 2})
				say(err)
				for _, l := range list {
					fmt.Println("settling", l.Message.ID)
					left, err := q.Settle(ctx, l, all(l, queue.Outcome{State: queue.Delivered, At: noon})...)
					say(err)
					if left == 0 {
						fmt.Println("gone", l.Message.ID)
					}
				}
				if len(list) == 0 {
					<-q.Changed()
				}
			}
		})
	}
	clients.Wait()
}

// testKill kills a process that uses the queue at any moment, again and again,
// over the same folder.
func (e Engine) testKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir() + "/queue"
	book := newLedger()
	chance := rand.New(rand.NewPCG(1, 2))
	for n := range kills(t) {
		if err := e.kill(t, dir, book, chance.IntN(200)); err != nil {
			t.Fatalf("kill %d: %v", n, err)
		}
		q, err := e.Open(nil, dir, Options{Report: faults(t, fmt.Sprintf("kill %d: ", n))})
		if err != nil {
			t.Fatalf("kill %d: %v", n, err)
		}
		if err := book.audit(t.Context(), q); err != nil {
			t.Fatalf("kill %d: %v", n, err)
		}
		// Most is taken away, so that the folder does not grow with the kills.
		list, _, err := q.List(t.Context(), queue.Filter{}, queue.Page{Max: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list[:max(0, len(list)-50)] {
			if k, err := q.Delete(t.Context(), m.ID); k != 1 || err != nil {
				t.Fatal(k, err)
			}
			delete(book.texts, m.ID)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// kill starts a victim, lets it say some lines after it is ready, kills it, and
// enters all that it said.
func (e Engine) kill(t *testing.T, dir string, book *ledger, lines int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^$")
	cmd.Env = append(os.Environ(), victimEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var faults []error
	for in, said := bufio.NewReader(out), 0; ; said++ {
		line, err := in.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				faults = append(faults, err)
			}
			break // what was not said in full was not said
		}
		faults = append(faults, book.enter(strings.Fields(line)))
		if said == lines {
			if err := cmd.Process.Kill(); err != nil {
				faults = append(faults, err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	return errors.Join(faults...)
}

// enter takes one line of a victim.
func (l *ledger) enter(words []string) error {
	switch {
	case len(words) == 3 && words[0] == "put":
		size, err := strconv.Atoi(words[2])
		if err != nil {
			return err
		}
		l.texts[words[1]] = Text(uint64(size), size)
	case len(words) == 2 && words[0] == "settling":
		l.maybe[words[1]] = true
	case len(words) == 2 && words[0] == "gone":
		delete(l.texts, words[1])
		l.gone[words[1]], l.left[words[1]] = true, true
	case len(words) == 1 && words[0] == "ready":
	default:
		return fmt.Errorf("the victim says: %s", strings.Join(words, " "))
	}
	return nil
}
