package imapclient

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// Errors of a Client that are no answer of the server.
var (
	// ErrClosed is what every method returns once the connection is closed, wrapped with
	// what closed it.
	ErrClosed = errors.New("imapclient: connection closed")
	// ErrProtocol: the server said what no IMAP server says. The connection is closed.
	ErrProtocol = errors.New("imapclient: the server does not speak IMAP")
	// ErrTooMuch: a response, or the responses to a command, are over a limit of the
	// ClientOptions. The connection is closed.
	ErrTooMuch = errors.New("imapclient: the server sends more than the limit")
	// ErrNoTLS: TLS is required and the server does not offer it.
	ErrNoTLS = errors.New("imapclient: the server offers no TLS")
	// ErrNeedTLS: nothing was sent, since it would have gone in the clear.
	ErrNeedTLS = errors.New("imapclient: credentials are not sent without TLS")
	// ErrArgument: nothing was sent, since no command can carry an argument.
	ErrArgument = errors.New("imapclient: argument can not be sent")
	// ErrNoCapability: nothing was sent, since the server has no such extension.
	ErrNoCapability = errors.New("imapclient: the server lacks an extension")
)

// Status is a status response (RFC 9051, 7.1): the result of a command, the greeting, or
// what the server has to say in between.
type Status struct {
	Kind string // "OK", "NO", "BAD", "PREAUTH", "BYE"
	Code string // the response code in upper case, without its arguments: "UIDNEXT"; often empty
	Arg  string // the arguments of the code, as they came
	Text string // for humans
	Line string // all of it, verbatim, without the tag
}

// Error is a NO or BAD of the server, or its BYE. errors.Is finds the imap error that its
// code stands for: imap.ErrNoMailbox for NONEXISTENT and TRYCREATE, imap.ErrOverQuota, ...
type Error struct {
	Command string // what it answers, as "UID FETCH"; "greeting" for the greeting
	Status
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("imapclient: %s: %s", e.Command, e.Line)
}

// codeErrors are the meanings of response codes that the vocabulary has a word for.
var codeErrors = map[string]error{
	"NONEXISTENT": imap.ErrNoMailbox, "TRYCREATE": imap.ErrNoMailbox, "ALREADYEXISTS": imap.ErrMailboxExists,
	"CANNOT": imap.ErrBadName, "HASCHILDREN": imap.ErrHasChildren, "EXPUNGEISSUED": imap.ErrExpunged,
	"OVERQUOTA": imap.ErrOverQuota, "TOOBIG": imap.ErrTooBig, "LIMIT": imap.ErrLimit,
	"READ-ONLY": imap.ErrReadOnly, "NOPERM": imap.ErrNoPermission, "INUSE": imap.ErrInUse,
}

// Is reports whether e's response code means target.
func (e *Error) Is(target error) bool {
	err, ok := codeErrors[e.Code]
	return ok && err == target
}

// Temporary reports whether the server said that a later try may succeed.
func (e *Error) Temporary() bool {
	switch e.Code {
	case "UNAVAILABLE", "INUSE", "SERVERBUG", "LIMIT":
		return true
	}
	return false
}

// takeStatus takes a status response behind its kind.
func takeStatus(d *wire.Decoder, kind string) *Status {
	s := &Status{Kind: kind}
	if !d.Accept(' ') {
		s.Line = kind
		return s
	}
	rest := d.Rest()
	s.Line, s.Text = kind+" "+rest, rest
	if end := codeEnd(rest); end > 0 {
		code, arg, _ := strings.Cut(rest[1:end], " ")
		s.Code, s.Arg = strings.ToUpper(code), arg
		s.Text = strings.TrimPrefix(rest[end+1:], " ")
	}
	return s
}

// codeEnd returns where the response code at the start of s ends, 0 when there is none. A
// bracket in a quoted string is none.
func codeEnd(s string) int {
	if !strings.HasPrefix(s, "[") {
		return 0
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ']' && !quoted:
			return i
		}
	}
	return 0
}

// Num returns the code's argument as a number, zero when it is none.
func (s *Status) Num() uint64 {
	n, _ := strconv.ParseUint(s.Arg, 10, 64)
	return n
}

// words returns the code's argument as words, without parentheses around them.
func (s *Status) words() []string {
	return strings.Fields(strings.TrimSuffix(strings.TrimPrefix(s.Arg, "("), ")"))
}

// uids expands a set that the server must have written one UID at a time or in ranges; the
// bound keeps 1:* from being taken for four thousand million messages.
func uids(text string, most int) ([]imap.UID, error) {
	spec, err := imap.ParseSetSpec(text)
	if err != nil {
		return nil, err
	}
	var out []imap.UID
	for _, r := range spec {
		if r.First == 0 || r.Last == 0 {
			return nil, imap.ErrBadSet
		}
		// A range means its members in ascending order, whichever way it is written
		// (RFC 9051, 9: uid-range).
		first, last := min(r.First, r.Last), max(r.First, r.Last)
		if uint64(last-first)+1 > uint64(most-len(out)) {
			return nil, fmt.Errorf("%w: a set of more than %d messages", ErrTooMuch, most)
		}
		for n := uint64(first); n <= uint64(last); n++ {
			out = append(out, imap.UID(n))
		}
	}
	return out, nil
}

// maxUIDs bounds what is made of APPENDUID and COPYUID.
const maxUIDs = 1 << 20

// copied returns what COPYUID tells, and nothing when there is none.
func (s *Status) copied() (imap.Copied, error) {
	f := strings.Fields(s.Arg)
	if s.Code != "COPYUID" || len(f) != 3 {
		return imap.Copied{}, nil
	}
	validity, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil {
		return imap.Copied{}, fmt.Errorf("%w: COPYUID %q", ErrProtocol, s.Arg)
	}
	from, err1 := uids(f[1], maxUIDs)
	to, err2 := uids(f[2], maxUIDs)
	if err := errors.Join(err1, err2); err != nil || len(from) != len(to) {
		return imap.Copied{}, fmt.Errorf("%w: COPYUID %.100q", ErrProtocol, s.Arg)
	}
	return imap.Copied{UIDValidity: uint32(validity), From: from, To: to}, nil
}

// appended returns what APPENDUID tells, and nothing when there is none.
func (s *Status) appended() (imap.AppendResult, error) {
	f := strings.Fields(s.Arg)
	if s.Code != "APPENDUID" || len(f) != 2 {
		return imap.AppendResult{}, nil
	}
	validity, err1 := strconv.ParseUint(f[0], 10, 32)
	list, err2 := uids(f[1], maxUIDs)
	if err := errors.Join(err1, err2); err != nil {
		return imap.AppendResult{}, fmt.Errorf("%w: APPENDUID %.100q", ErrProtocol, s.Arg)
	}
	return imap.AppendResult{UIDValidity: uint32(validity), UIDs: list}, nil
}
