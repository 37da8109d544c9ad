package open

import (
	"context"
	"net"

	"postern/forward"
)

// A Dial is the only way out of an open proxy. What it does not reach, the
// proxy does not reach: the lab's leads to loopback alone.
type Dial func(ctx context.Context, to forward.Address) (net.Conn, error)
