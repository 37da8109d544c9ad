// Package verdict judges: from the exchanges with a server and the messages
// that arrived it says open, accepts, closed or inconclusive. Judge is a pure
// function of the evidence; only an arrival makes a server open.
package verdict
