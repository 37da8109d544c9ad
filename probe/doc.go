// Package probe is the stranger at each door: it plays one form against one
// port and brings back the exchange. It decides nothing. It sends no content
// but its own token, and no recipient but the one that the form names.
package probe
