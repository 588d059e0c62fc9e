package saslauth

import (
	"fmt"

	"github.com/xdg-go/stringprep"
)

// Prepare makes the form of a user name or password in which it is compared: SASLprep (RFC 4013),
// by which what looks the same on two keyboards is the same. It fails for text that no user
// can have meant to type, such as control characters. Callbacks get names and passwords of
// PLAIN and LOGIN prepared (RFC 4616, 2); SCRAM's come prepared by the client (RFC 5802, 2.2).
func Prepare(s string) (string, error) {
	if isPrintable(s) {
		return s, nil
	}
	p, err := stringprep.SASLprep.Prepare(s)
	if err != nil || p == "" {
		return "", fmt.Errorf("%w: not to be prepared", errSyntax)
	}
	return p, nil
}

// isPrintable reports whether s is printable ASCII, which is prepared as it stands.
func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
