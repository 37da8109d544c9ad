package open

import (
	"net"

	proxyproto "github.com/pires/go-proxyproto"
)

// believing wraps a listener whose clients must all begin with a PROXY header,
// and believes it of anybody: the careless way to stand behind a balancer.
func believing(l net.Listener) net.Listener {
	return &proxyproto.Listener{Listener: l, ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		return proxyproto.REQUIRE, nil
	}}
}
