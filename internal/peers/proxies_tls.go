package peers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"sync"
	"time"

	"postern/door"
	"postern/verdict"
)

// ownPEM is a key with a certificate that nobody has signed but itself.
var ownPEM = sync.OnceValue(func() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // there is no chance on this machine
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{Host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err) // the template is ours
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Buffer never fails
	_ = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return b.String()
})

// insideTLS makes a set-up of the packages that are reached inside TLS.
func insideTLS(port, start string, files map[string]string) func() setup {
	return func() setup {
		s := proxy(port, start, files)()
		s.root = "wrapped"
		s.files["etc/own.pem"] = ownPEM()
		return s
	}
}

// httpsPort has Squid listen inside TLS and nowhere else.
const httpsPort = `-e '/^http_port/d' -e '$ahttps_port ` + Target4 + `:443 tls-cert=/etc/own.pem' `

// haproxyTLS makes TLS before a proxy of this machine, which sees no other clients.
var haproxyTLS = map[string]string{"etc/haproxy/own.cfg": `
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen https
  bind ` + Target4 + `:443 ssl crt /etc/own.pem alpn h2,http/1.1
  server proxy 127.0.0.1:8888
`}

func stunnelSOCKS(more string) map[string]string {
	return map[string]string{"etc/stunnel/own.conf": `
foreground = yes
pid =
[socks]
protocol = socks
accept = ` + Target4 + `:1080
cert = /etc/own.pem
` + more}
}

const stunnelStart = "stunnel4 /etc/stunnel/own.conf &"

var tlsPassages = []Passage{
	{
		Case: Case{
			Server: "squid-tls", Config: "open", What: "https_port, http_access allow all, without Safe_ports and SSL_ports", Want: "open", Hole: "connect-ipv4 connect-name",
			setup: insideTLS("443", squidStart(httpsPort+`-e '/^http_access deny/d' -e 's/^http_access allow localhost$/http_access allow all/'`), nil),
		},
		Door: door.Connect, Port: "443", Kind: verdict.KindConnect, Egress: Target4, Software: "squid", Ask: tunnel25.inTLS(),
	},
	{
		Case: Case{
			Server: "squid-tls", Config: "closed", What: "https_port, and as Debian ships it", Want: "closed",
			setup: insideTLS("443", squidStart(httpsPort), nil),
		},
		Door: door.Connect, Port: "443", Software: "squid", Ask: tunnel25.inTLS(),
	},
	{
		Case: Case{
			Server: "haproxy-tls", Config: "open", What: "bind ssl, alpn h2,http/1.1, to tinyproxy as Debian ships it: Allow 127.0.0.1 is everybody now", Want: "open", Hole: "connect-ipv4 connect-name",
			setup: insideTLS("443", tinyproxyStart(`-e '$aListen 127.0.0.1'`)+haproxyStart, haproxyTLS),
		},
		Door: door.Connect, Port: "443", Kind: verdict.KindConnect, Egress: Target4, Software: "tinyproxy", Ask: tunnel25.inTLS(),
	},
	{
		Case: Case{
			Server: "haproxy-tls", Config: "login", What: "the same with BasicAuth", Want: "closed",
			setup: insideTLS("443", tinyproxyStart(`-e '$aListen 127.0.0.1' -e '$aBasicAuth anna `+Password+`'`)+haproxyStart, haproxyTLS),
		},
		Door: door.Connect, Port: "443", Why: "login", Software: "tinyproxy", Ask: tunnel25.inTLS(), Owner: Ask{How: "connect", User: "anna", Port: "25", TLS: true},
	},
	{
		Case: Case{
			Server: "stunnel", Config: "open", What: "protocol = socks", Want: "open", Hole: "socks5-ipv4 socks5-name socks4",
			setup: insideTLS("1080", stunnelStart, stunnelSOCKS("")),
		},
		Door: door.SOCKS, Port: "1080", Kind: verdict.KindSOCKS, Egress: Target4, Ask: socks25.inTLS(),
	},
	{
		Case: Case{
			Server: "stunnel", Config: "certificate", What: "protocol = socks, verifyChain and requireCert: only clients with a certificate get so far as to speak", Want: "not_tested",
			setup: insideTLS("1080", stunnelStart, stunnelSOCKS("CAfile = /etc/own.pem\nverifyChain = yes\nrequireCert = yes\n")),
		},
		Door: door.SOCKS, Port: "1080", Why: "it speaks TLS, and ends the handshake", Ask: socks25.inTLS(),
	},
}
