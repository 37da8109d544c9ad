//go:build !unix

package netop

// A reserve holds nothing where descriptors have no limit of this kind.
type reserve struct{}

func (*reserve) take() bool { return true }
func (*reserve) give() bool { return false }
