package wire

import (
	"errors"

	"github.com/mailblocks/mailblocks/internal/mutf7"
)

// ErrBadUTF7 is returned for text that is not modified UTF-7.
var ErrBadUTF7 = errors.New("malformed modified UTF-7")

// DecodeUTF7 turns a mailbox name in modified UTF-7 (RFC 3501, 5.1.3) into UTF-8. Names must
// be in their one canonical form, so that no two of them mean the same mailbox: no base64
// for what is printable, no base64 next to base64.
func DecodeUTF7(s string) (string, error) {
	name, err := mutf7.Decode(s)
	if err != nil || EncodeUTF7(name) != s {
		return "", ErrBadUTF7
	}
	return name, nil
}

// EncodeUTF7 turns a mailbox name in UTF-8 into modified UTF-7. Octets that are not UTF-8
// become U+FFFD.
func EncodeUTF7(s string) string { return mutf7.Encode(s, "") }
