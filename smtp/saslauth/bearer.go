package saslauth

import (
	"bytes"
	"strings"
)

// bearer is OAUTHBEARER (RFC 7628) and XOAUTH2:
//
//	OAUTHBEARER = gs2-header ^A *( key "=" value ^A ) ^A        ; "n,a=user," or "n,,"
//	XOAUTH2     = "user=" user ^A "auth=Bearer " token ^A ^A
//
// A refusal goes to the client as a challenge, which it answers for form's sake, before
// the exchange fails (RFC 7628, 3.2.3).
type bearer struct {
	exchange
	google bool
	failed error
	over   bool
}

func (b *bearer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case b.failed != nil:
		return nil, false, b.failed
	case b.over:
		return nil, false, errSyntax
	case response == nil:
		return []byte{}, false, nil
	}
	b.over = true
	user, token, ok := parseBearer(string(response), b.google)
	if !ok || !acceptable([]byte(user)) {
		return b.refuse(`{"status":"invalid_request","schemes":"bearer"}`, errSyntax)
	}
	identity, err := b.a.Token(b.ctx, user, token)
	if err == nil {
		// The token was checked with the user claimed, so there is nothing left to authorize.
		return nil, true, b.done(identity)
	}
	if b.google {
		return b.refuse(`{"status":"401","schemes":"bearer","scope":""}`, classify(err))
	}
	return b.refuse(`{"status":"invalid_token","schemes":"bearer"}`, classify(err))
}

func (b *bearer) refuse(json string, err error) ([]byte, bool, error) {
	b.failed = err
	return []byte(json), false, nil
}

func parseBearer(s string, google bool) (user, token string, ok bool) {
	head, rest, found := strings.Cut(s, "\x01")
	if !found || !strings.HasSuffix(rest, "\x01") {
		return "", "", false
	}
	if google {
		if user, found = strings.CutPrefix(head, "user="); !found || user == "" {
			return "", "", false
		}
	} else {
		// gs2-header (RFC 5801, 4); there is no channel binding with bearer tokens.
		flag, authz, found := strings.Cut(head, ",")
		if !found || flag != "n" && flag != "y" || !strings.HasSuffix(authz, ",") {
			return "", "", false
		}
		if authz = strings.TrimSuffix(authz, ","); authz != "" {
			if user, found = strings.CutPrefix(authz, "a="); !found {
				return "", "", false
			}
			if user, ok = unescapeName(user); !ok {
				return "", "", false
			}
		}
	}
	for kv := range strings.SplitSeq(strings.TrimRight(rest, "\x01"), "\x01") {
		key, value, found := strings.Cut(kv, "=")
		if !found {
			return "", "", false
		}
		if key != "auth" {
			continue // host, port: we know where we are
		}
		scheme, t, found := strings.Cut(value, " ")
		if !found || token != "" || !strings.EqualFold(scheme, "Bearer") {
			return "", "", false
		}
		token = strings.TrimSpace(t)
	}
	return user, token, token != ""
}

// unescapeName undoes =2C and =3D (RFC 5801, 4).
func unescapeName(s string) (string, bool) {
	var b bytes.Buffer
	for {
		i := strings.IndexAny(s, "=,")
		if i < 0 {
			b.WriteString(s)
			return b.String(), true
		}
		b.WriteString(s[:i])
		switch {
		case strings.HasPrefix(s[i:], "=2C"):
			b.WriteByte(',')
		case strings.HasPrefix(s[i:], "=3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = s[i+3:]
	}
}
