package peers

// machine is what every world holds besides the packages: names, users, and where to ask for DNS.
// The users have the numbers that nothing in the packages depends on.
var machine = map[string]string{
	"etc/hostname": "mx.victim.example\n",
	"etc/mailname": "victim.example\n",
	"etc/hosts": `127.0.0.1 localhost
::1 localhost ip6-localhost
203.0.113.10 mx.victim.example mx
2001:db8:2::10 mx.victim.example mx
`,
	// The resolver of resolver.go.
	"etc/resolv.conf":   "nameserver 127.0.0.1\noptions timeout:5 attempts:1\n",
	"etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\naliases: files\n",
	"etc/passwd": `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
mail:x:8:8:mail:/var/mail:/bin/false
uucp:x:10:10:uucp:/var/spool/uucp:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
postfix:x:101:101::/var/spool/postfix:/bin/false
Debian-exim:x:103:103::/var/spool/exim4:/bin/false
opensmtpd:x:104:104::/var/lib/opensmtpd/empty:/bin/false
opensmtpq:x:105:105::/var/lib/opensmtpd/empty:/bin/false
smmta:x:106:106::/var/lib/sendmail:/bin/false
smmsp:x:107:107::/var/lib/sendmail:/bin/false
courier:x:108:108::/var/lib/courier:/bin/false
anna:x:1000:1000::/home/anna:/bin/sh
`,
	"etc/group": `root:x:0:
daemon:x:1:
bin:x:2:
tty:x:5:
mail:x:8:
uucp:x:10:
nogroup:x:65534:
postfix:x:101:
postdrop:x:102:
Debian-exim:x:103:
opensmtpd:x:104:
opensmtpq:x:105:
smmta:x:106:
smmsp:x:107:
courier:x:108:
anna:x:1000:
`,
	"etc/shadow":  "root:*:19000:0:99999:7:::\nanna:*:19000:0:99999:7:::\n",
	"etc/aliases": "postmaster: anna\nmailer-daemon: postmaster\nroot: anna\n",
}
