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
)

// A digest is all that is kept of a message.
type digest struct {
	header string
	hash   string // SHA-256 of the body, in hex
	size   int64
	tokens []plan.Token
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
	rest, err := io.Copy(io.MultiWriter(h, scan), in)
	if err != nil {
		return digest{}, err
	}
	return digest{header: header, hash: hex.EncodeToString(h.Sum(nil)), size: n + rest, tokens: scan.found}, nil
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
