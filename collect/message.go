package collect

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"postern/plan"
)

const (
	maxHeader = 64 << 10  // kept of a header section
	maxScan   = 256 << 10 // looked through for tokens
	maxReport = 32 << 10  // looked through for what a notice reports
)

// A digest is all that is kept of a message.
type digest struct {
	header string
	hash   string // SHA-256 of the body, in hex
	size   int64
	tokens []plan.Token
	report string // the first octets of the body, where a notice says what became of a message
}

// digestOf reads a message to its end.
func digestOf(body io.Reader, k keys, now time.Time) (digest, error) {
	scan := &scanner{keys: k, now: now, left: maxScan}
	in := bufio.NewReader(body)
	header, n, err := readHeader(in, scan)
	if err != nil && !errors.Is(err, io.EOF) {
		return digest{}, err
	}
	h := sha256.New()
	var report head
	rest, err := io.Copy(io.MultiWriter(h, scan, &report), in)
	if err != nil {
		return digest{}, err
	}
	return digest{header: header, hash: hex.EncodeToString(h.Sum(nil)), size: n + rest, tokens: scan.found, report: string(report)}, nil
}

// A head keeps the first octets of what is written to it.
type head []byte

func (h *head) Write(p []byte) (int, error) {
	*h = append(*h, p[:min(len(p), maxReport-len(*h))]...)
	return len(p), nil
}

// readHeader reads up to and with the empty line, and returns the header
// section without it. Lines beyond the bound are read and left out.
func readHeader(in *bufio.Reader, scan io.Writer) (string, int64, error) {
	var header []byte
	var size int64
	start := true // of a line
	for {
		piece, err := in.ReadSlice('\n')
		size += int64(len(piece))
		if start && len(bytes.TrimRight(piece, "\r\n")) == 0 {
			return string(header), size, err
		}
		_, _ = scan.Write(piece) // a scanner takes all
		header = append(header, piece[:min(len(piece), maxHeader-len(header))]...)
		start = !errors.Is(err, bufio.ErrBufferFull)
		if err != nil && start {
			return string(header), size, err
		}
	}
}
