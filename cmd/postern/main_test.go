package main

import (
	"context"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern/serve"
)

// The scripts of testdata/script are the manual, run: every command that the
// README and docs/doors show stands in one of them.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"postern": main,
	})
}

// awaitRelay waits until the relay that holds a state folder answers.
func awaitRelay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: awaitrelay STATE")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := serve.Dial(ts.MkAbs(args[0])).Get(context.Background(), "/status", &serve.Status{})
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no relay on %s: %v", args[0], err)
		}
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"awaitrelay": awaitRelay},
	})
}
