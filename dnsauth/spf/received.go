package spf

import (
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
)

// ReceivedSPF returns the result as a Received-SPF header field (RFC 7208, 9.1)
// with CRLF at the end of each line, ready to stand in front of the message.
// receiver is our host name. Text of the peer is quoted and reduced to printable
// ASCII, so nothing it says can end the field or a line of it.
func (r *Result) ReceivedSPF(receiver string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Received-SPF: %s\r\n (%s)\r\n", r.Status, commentText(receiver+": "+r.summary()))
	pair := func(key, value string) {
		fmt.Fprintf(&b, " %s=%s;\r\n", key, pairValue(value))
	}
	pair("receiver", receiver)
	pair("identity", string(r.Identity))
	pair("client-ip", r.IP.String())
	if r.Identity == MailFrom && !r.Null {
		pair("envelope-from", r.Sender)
	}
	pair("helo", r.Helo)
	switch r.Status {
	case Pass, Fail, SoftFail, Neutral:
		pair("mechanism", r.Mechanism)
	case TempError, PermError:
		pair("problem", r.Reason)
	}
	s := b.String()
	return s[:len(s)-len(";\r\n")] + "\r\n"
}

// summary says the result in words, as the examples of RFC 7208, 9.1 do.
func (r *Result) summary() string {
	switch r.Status {
	case Pass:
		return fmt.Sprintf("domain of %s designates %s as permitted sender", r.Sender, r.IP)
	case Fail:
		return fmt.Sprintf("domain of %s does not designate %s as permitted sender", r.Sender, r.IP)
	case SoftFail:
		return fmt.Sprintf("domain of transitioning %s discourages use of %s as permitted sender", r.Sender, r.IP)
	case Neutral:
		return fmt.Sprintf("%s is neither permitted nor denied by domain of %s", r.IP, r.Sender)
	case TempError:
		return fmt.Sprintf("error in processing during look-up of %s", r.Sender)
	case PermError:
		return fmt.Sprintf("domain of %s has no record that can be interpreted", r.Sender)
	}
	return fmt.Sprintf("domain of %s does not designate permitted sender hosts", r.Sender)
}

// maxFieldText keeps a line within the 998 octets of RFC 5322, 2.1.1, even if
// every character needs a backslash.
const maxFieldText = 400

func clip(s string) string { return s[:min(len(s), maxFieldText)] }

// commentText is what may stand between the parentheses of a comment.
func commentText(s string) string {
	return msgheader.Escape(clip(printable(s)), `()\`)
}

// pairValue returns s as a dot-atom, if it is one, or a quoted-string.
func pairValue(s string) string {
	s = clip(printable(s))
	if isDotAtom(s) {
		return s
	}
	return `"` + msgheader.Escape(s, `"\`) + `"`
}

// isDotAtom is RFC 5322, 3.2.3.
func isDotAtom(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && !isDigit(c) && strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) < 0 {
			return false
		}
	}
	return true
}
