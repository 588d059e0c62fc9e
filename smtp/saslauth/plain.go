package saslauth

import (
	"bytes"
	"unicode/utf8"
)

const maxName = 1024 // octets of a user name or password

// plain is PLAIN (RFC 4616): [authzid] NUL authcid NUL passwd.
type plain struct {
	exchange
	over bool
}

func (p *plain) Next(response []byte) ([]byte, bool, error) {
	if p.over {
		return nil, false, errSyntax
	}
	if response == nil {
		return []byte{}, false, nil
	}
	p.over = true
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 || !acceptable(parts...) {
		return nil, false, errSyntax
	}
	user := string(parts[1])
	identity, err := p.a.Password(p.ctx, user, string(parts[2]))
	if err != nil {
		return nil, false, classify(err)
	}
	return nil, true, p.finish(user, identity, string(parts[0]))
}

func acceptable(parts ...[]byte) bool {
	for _, p := range parts {
		if len(p) > maxName || !utf8.Valid(p) {
			return false
		}
	}
	return true
}

// login is LOGIN, which no RFC describes: two prompts, two answers.
type login struct {
	exchange
	user []byte
	step int
}

func (l *login) Next(response []byte) ([]byte, bool, error) {
	if response == nil && l.step == 0 {
		return []byte("Username:"), false, nil
	}
	l.step++
	if !acceptable(response) || len(response) == 0 {
		return nil, false, errSyntax
	}
	switch l.step {
	case 1:
		l.user = bytes.Clone(response)
		return []byte("Password:"), false, nil
	case 2:
		identity, err := l.a.Password(l.ctx, string(l.user), string(response))
		if err != nil {
			return nil, false, classify(err)
		}
		return nil, true, l.finish(string(l.user), identity, "")
	}
	return nil, false, errSyntax
}
