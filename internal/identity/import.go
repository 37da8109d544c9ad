package identity

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"postern/internal/plaintext"
	"postern/internal/problem"
)

// Import takes over users from lines as other programs keep them:
//
//	name:{SCHEME}verifier
//	name:{SCHEME}verifier:address,address
//	name:{SCHEME}verifier:uid:gid:gecos:home:shell:extra
//
// Schemes are ARGON2ID, BLF-CRYPT and SHA512-CRYPT; without braces the
// verifier's own prefix tells. Empty lines and lines that begin with "#" are
// passed over. All lines are taken or none; file names them in the problems.
// It returns how many users were made.
//
// A user of whom we have no SCRAM keys gets them at the first login that
// shows the password (PLAIN, LOGIN).
func (s *Store) Import(file string, from io.Reader) (int, error) {
	var made []record
	var problems []error
	in := plaintext.Scanner(from)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimRight(in.Text(), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := parsePasswd(line)
		if err != nil {
			problems = append(problems, problem.At(problem.Pos{File: file, Line: n}, err.Error(), ""))
			continue
		}
		r.Created, r.Changed = now(), now()
		made = append(made, r)
	}
	if err := in.Err(); err != nil {
		problems = append(problems, problem.At(problem.Pos{File: file}, err.Error(), ""))
	}
	if len(problems) > 0 {
		return 0, errors.Join(problems...)
	}
	err := s.change(func(users *[]record) error {
		have := make(map[string]bool, len(*users)+len(made))
		for _, r := range *users {
			have[r.Name] = true
		}
		for _, r := range made {
			if have[r.Name] {
				problems = append(problems, exists(r.Name))
			}
			have[r.Name] = true
		}
		*users = slices.Concat(*users, made)
		return errors.Join(problems...)
	})
	if err != nil {
		return 0, err
	}
	return len(made), nil
}

// parsePasswd reads one line. Errors show the name and never the verifier.
func parsePasswd(line string) (record, error) {
	fields := strings.Split(line, ":")
	if len(fields) < 2 {
		return record{}, errors.New("a line is name:{SCHEME}verifier")
	}
	name, err := parseName(fields[0])
	if err != nil {
		return record{}, errors.New(strconv.Quote(fields[0]) + ": " + err.Error())
	}
	r := record{Name: name}
	v, err := parseVerifier(fields[1])
	if err != nil {
		return record{}, errors.New("user " + strconv.Quote(name) + ": " + err.Error())
	}
	r.Password = v.String()
	// Two more fields or many are uid, gid and so on, which mean nothing here.
	if len(fields) == 3 && strings.Trim(fields[2], "0123456789") != "" {
		for entry := range strings.SplitSeq(fields[2], ",") {
			r.MaySendAs = append(r.MaySendAs, strings.TrimSpace(entry))
		}
		if err := checkSenders(r.MaySendAs); err != nil {
			return record{}, errors.New("user " + strconv.Quote(name) + ": " + err.Error())
		}
	}
	return r, nil
}
