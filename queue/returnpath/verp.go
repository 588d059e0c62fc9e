package returnpath

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
)

// ErrInvalid: the address is not one that was made with these keys, or it is too old.
var ErrInvalid = errors.New("returnpath: address is not one of ours")

// maxLocal is the length of a local part (RFC 5321, 4.5.3.1.1).
const maxLocal = 64

// codes are digits of the authentication codes. They survive a change of case.
var codes = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// code authenticates parts of an address, in six characters.
func code(key []byte, parts ...string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.ToLower(strings.Join(parts, "\x00"))))
	return codes.EncodeToString(h.Sum(nil))[:6]
}

// proven reports whether a code is right by any of the keys.
func proven(keys [][]byte, got string, parts ...string) bool {
	ok := false
	for _, key := range keys {
		ok = hmac.Equal([]byte(code(key, parts...)), []byte(strings.ToLower(got))) || ok
	}
	return ok
}

func split(address string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 || strings.HasPrefix(address, `"`) || strings.Contains(address[at:], "=") {
		return "", "", false
	}
	return address[:at], address[at+1:], true
}

// VERP puts the recipient into the reverse-path: news@list.example, sent to ann@example.org, becomes
// news+k5qh2m+ann=example.org@list.example.
type VERP struct {
	// Keys authenticate addresses: the first makes them, any proves them. Without a key anybody can make them.
	Keys [][]byte

	// Separator stands between the sender's own local part and the rest. 0 means '+'.
	Separator byte
}

func (v *VERP) separator() string {
	if v.Separator == 0 {
		return "+"
	}
	return string(rune(v.Separator))
}

// Encode gives the reverse-path for one recipient. It is the sender as it stands where there is no room for the
// recipient, or where either is not of a form that fits: null, quoted, without a domain.
func (v *VERP) Encode(sender, recipient string) string {
	local, domain, ok := split(sender)
	to, toDomain, ok2 := split(recipient)
	if !ok || !ok2 || strings.Contains(local, v.separator()) || strings.HasPrefix(toDomain, "[") {
		return sender
	}
	address := to + "=" + toDomain
	if len(v.Keys) > 0 {
		address = code(v.Keys[0], sender, recipient) + v.separator() + address
	}
	if local += v.separator() + address; len(local) > maxLocal {
		return sender
	}
	return local + "@" + domain
}

// Decode finds out what Encode was given. ErrInvalid: the address has no recipient, or not one that the keys prove.
func (v *VERP) Decode(address string) (sender, recipient string, err error) {
	local, domain, ok := split(address)
	own, rest, ok2 := strings.Cut(local, v.separator())
	if !ok || !ok2 {
		return "", "", ErrInvalid
	}
	proof := ""
	if len(v.Keys) > 0 {
		if proof, rest, ok = strings.Cut(rest, v.separator()); !ok {
			return "", "", ErrInvalid
		}
	}
	at := strings.LastIndexByte(rest, '=')
	if own == "" || at <= 0 || at == len(rest)-1 {
		return "", "", ErrInvalid
	}
	sender, recipient = own+"@"+domain, rest[:at]+"@"+rest[at+1:]
	if len(v.Keys) > 0 && !proven(v.Keys, proof, sender, recipient) {
		return "", "", ErrInvalid
	}
	return sender, recipient, nil
}
