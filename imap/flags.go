package imap

import (
	"iter"
	"slices"
	"strings"
)

// A Flag is a system flag such as \Seen or a keyword such as $Junk (RFC 9051, 2.3.2).
// Flags compare without regard to ASCII case; the spelling first seen in a mailbox is kept.
type Flag string

// The system flags (RFC 9051, 2.3.2) and \Recent (RFC 3501, 2.3.2), which no client can set.
const (
	FlagSeen     Flag = `\Seen`
	FlagAnswered Flag = `\Answered`
	FlagFlagged  Flag = `\Flagged`
	FlagDeleted  Flag = `\Deleted`
	FlagDraft    Flag = `\Draft`
	FlagRecent   Flag = `\Recent`
)

// Keywords with a meaning of their own (RFC 9051, 2.3.2).
const (
	FlagForwarded Flag = "$Forwarded"
	FlagMDNSent   Flag = "$MDNSent"
	FlagJunk      Flag = "$Junk"
	FlagNotJunk   Flag = "$NotJunk"
	FlagPhishing  Flag = "$Phishing"
)

// SystemFlags is a set of system flags, one bit each.
type SystemFlags uint8

// The bits of SystemFlags. \Recent has none: it belongs to a session, not to a message.
const (
	Seen SystemFlags = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
)

var systemFlags = [...]struct {
	bit  SystemFlags
	flag Flag
}{{Answered, FlagAnswered}, {Flagged, FlagFlagged}, {Deleted, FlagDeleted}, {Seen, FlagSeen}, {Draft, FlagDraft}}

// System returns f's bit, or zero when f is not one of the five storable system flags.
func (f Flag) System() SystemFlags {
	if len(f) == 0 || f[0] != '\\' {
		return 0
	}
	for _, s := range systemFlags {
		if strings.EqualFold(string(f), string(s.flag)) {
			return s.bit
		}
	}
	return 0
}

// Valid reports whether f can be stored: a storable system flag, or a keyword that is an
// atom of at most 128 octets (RFC 9051, 9: flag-keyword).
func (f Flag) Valid() bool {
	if f.System() != 0 {
		return true
	}
	if len(f) == 0 || len(f) > 128 {
		return false
	}
	for i := range len(f) {
		if c := f[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}

// Flags is the set of flags on one message: system flags as bits, keywords in ascending
// order without regard to case. It is a value: methods return a changed copy, and the
// keyword slice is never written to once it is in a Flags. The zero value is the empty set.
type Flags struct {
	system   SystemFlags
	keywords []string
}

// NewFlags returns the set of the given flags. \Recent and unknown flags that begin with a
// backslash are left out: no message can carry them.
func NewFlags(flags ...Flag) Flags { return Flags{}.With(flags...) }

// MakeFlags returns the set of the given bits and keywords. It takes over the slice.
func MakeFlags(system SystemFlags, keywords []string) Flags {
	if len(keywords) > 1 {
		slices.SortFunc(keywords, compareFold)
		keywords = slices.CompactFunc(keywords, strings.EqualFold)
	}
	return Flags{system, slices.Clip(keywords)}
}

// System returns the system flags of f.
func (f Flags) System() SystemFlags { return f.system }

// Keywords returns the keywords of f in ascending order. The caller must not change it.
func (f Flags) Keywords() []string { return f.keywords }

// Len returns the number of flags in f.
func (f Flags) Len() int {
	n := len(f.keywords)
	for _, s := range systemFlags {
		if f.system&s.bit != 0 {
			n++
		}
	}
	return n
}

// Has reports whether f contains flag.
func (f Flags) Has(flag Flag) bool {
	if bit := flag.System(); bit != 0 {
		return f.system&bit != 0
	}
	_, ok := slices.BinarySearchFunc(f.keywords, string(flag), compareFold)
	return ok
}

// With returns f and the given flags.
func (f Flags) With(flags ...Flag) Flags {
	var more []string
	for _, x := range flags {
		switch bit := x.System(); {
		case bit != 0:
			f.system |= bit
		case len(x) > 0 && x[0] != '\\' && !f.Has(x):
			more = append(more, string(x))
		}
	}
	if more == nil {
		return f
	}
	return MakeFlags(f.system, append(slices.Clone(f.keywords), more...))
}

// Without returns f without the given flags.
func (f Flags) Without(flags ...Flag) Flags {
	for _, x := range flags {
		if bit := x.System(); bit != 0 {
			f.system &^= bit
		} else if i, ok := slices.BinarySearchFunc(f.keywords, string(x), compareFold); ok {
			f.keywords = slices.Concat(f.keywords[:i], f.keywords[i+1:])
		}
	}
	return f
}

// Equal reports whether f and g hold the same flags.
func (f Flags) Equal(g Flags) bool {
	return f.system == g.system && slices.EqualFunc(f.keywords, g.keywords, strings.EqualFold)
}

// All returns the flags of f: system flags in the order Dovecot and Cyrus list them, then keywords.
func (f Flags) All() iter.Seq[Flag] {
	return func(yield func(Flag) bool) {
		for _, s := range systemFlags {
			if f.system&s.bit != 0 && !yield(s.flag) {
				return
			}
		}
		for _, k := range f.keywords {
			if !yield(Flag(k)) {
				return
			}
		}
	}
}

// String returns f as an IMAP flag list: (\Seen $Junk).
func (f Flags) String() string {
	var b strings.Builder
	b.WriteByte('(')
	for x := range f.All() {
		if b.Len() > 1 {
			b.WriteByte(' ')
		}
		b.WriteString(string(x))
	}
	b.WriteByte(')')
	return b.String()
}

// FlagAction says how a FlagOp combines with the flags that a message has.
type FlagAction uint8

// The three forms of STORE (RFC 9051, 6.4.6).
const (
	FlagsAdd     FlagAction = iota // +FLAGS
	FlagsRemove                    // -FLAGS
	FlagsReplace                   // FLAGS
)

// A FlagOp is a change of flags, not a result: two sessions that change different flags of
// one message at once never lose each other's change.
type FlagOp struct {
	Action FlagAction
	Flags  Flags
}

// Apply returns what op makes of old.
func (op FlagOp) Apply(old Flags) Flags {
	switch op.Action {
	case FlagsAdd:
		old.system |= op.Flags.system
		if len(op.Flags.keywords) == 0 {
			return old
		}
		return MakeFlags(old.system, slices.Concat(old.keywords, op.Flags.keywords))
	case FlagsRemove:
		old.system &^= op.Flags.system
		for _, k := range op.Flags.keywords {
			old = old.Without(Flag(k))
		}
		return old
	default:
		return op.Flags
	}
}

// compareFold orders strings by their bytes with ASCII letters folded to lower case.
func compareFold(a, b string) int {
	for i := range min(len(a), len(b)) {
		if x, y := lower(a[i]), lower(b[i]); x != y {
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
