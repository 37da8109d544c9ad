//go:build !amd64 && !arm64

package sandbox

// native is nothing where the filter is not entered.
var native []uint32
