package collect

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/internal/plaintext"
)

// minSecret is the least length of a secret, in octets of its text.
const minSecret = 16

// ReadSecret reads the secret in a file, which nobody else may be able to read.
func ReadSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others than its owner (%v); chmod 600 %s", path, info.Mode().Perm(), path)
	}
	raw, err := plaintext.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(raw))
	if len(secret) < minSecret {
		return "", fmt.Errorf("%s holds %d octets; a secret has %d or more", path, len(secret), minSecret)
	}
	return secret, nil
}

// MakeSecret reads the secret in a file, and makes both when the file is missing.
func MakeSecret(path string) (string, error) {
	secret, err := ReadSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	raw := make([]byte, 32)
	rand.Read(raw)
	secret = base64.RawURLEncoding.EncodeToString(raw)
	// A temporary file and a link, so that who reads at the same time finds
	// nothing or all of it, and of two who make it both get the same.
	temporary, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	if _, err = temporary.WriteString(secret + "\n"); err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return "", err
	}
	err = os.Link(temporary.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return ReadSecret(path)
	}
	return secret, err
}
