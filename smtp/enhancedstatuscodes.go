package smtp

// enhancedStatusCodes promises codes of RFC 3463 in replies (RFC 2034).
// Without it they are left out.
var enhancedStatusCodes = extension{keyword: "ENHANCEDSTATUSCODES"}
