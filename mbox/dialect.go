package mbox

import "fmt"

// A Dialect is a way to keep the text of messages apart from the separators. The table in
// the package's comment compares them.
type Dialect uint8

const (
	Auto    Dialect = iota // Reader: as Detect finds; Writer: RD
	RD                     // mboxrd: reversible
	O                      // mboxo: a line that was ">From " comes back as "From "
	CL                     // mboxcl: mboxo with Content-Length
	CL2                    // mboxcl2: Content-Length, no quoting
	Dovecot                // as Dovecot keeps its own: mboxcl2, where Content-Length may be absent
)

var dialectNames = [...]string{"auto", "mboxrd", "mboxo", "mboxcl", "mboxcl2", "dovecot"}

// String returns the dialect's name: "mboxrd", "mboxo", "mboxcl", "mboxcl2", "dovecot", or
// "auto".
func (d Dialect) String() string {
	if int(d) < len(dialectNames) {
		return dialectNames[d]
	}
	return fmt.Sprintf("dialect(%d)", uint8(d))
}

// ParseDialect returns the dialect of that name.
func ParseDialect(name string) (Dialect, error) {
	for i, n := range dialectNames {
		if n == name {
			return Dialect(i), nil
		}
	}
	return Auto, fmt.Errorf("mbox: no dialect %q", name)
}

// counted tells whether bodies may have their length in a Content-Length field.
func (d Dialect) counted() bool { return d == CL || d == CL2 || d == Dovecot }

// unquotes tells whether a line of depth '>' and "From " stands for one with a '>' less.
func (d Dialect) unquotes(depth int) bool {
	switch d {
	case RD:
		return depth >= 1
	case O, CL:
		return depth == 1
	}
	return false
}

// quotes tells whether a line of depth '>' and "From " gets another '>'.
func (d Dialect) quotes(depth int) bool {
	switch d {
	case RD:
		return true
	case O, CL:
		return depth == 0
	}
	return false
}
