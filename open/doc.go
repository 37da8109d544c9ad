// Package open is the open side of each door: it says yes, by one careless
// rule or another, and hands all that it takes to a Sink. It knows no policy
// and delivers nothing itself; serve cannot link it.
package open
