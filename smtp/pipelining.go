package smtp

// pipelining lets the client send commands in groups (RFC 2920). The engine
// answers so in any case, see outbound; the keyword says that it may be relied on.
var pipelining = extension{keyword: "PIPELINING"}
