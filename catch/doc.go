// Package catch is a mail server for those who write programs: it takes every
// message from loopback and delivers none, keeps the last ones, and shows them
// on a page and to tests. It listens on loopback only, whatever it is told,
// and knows nothing of a queue or of a way out.
package catch
