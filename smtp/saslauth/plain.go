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
	as, err := Prepare(string(parts[0]))
	if err != nil {
		return nil, false, err
	}
	user, identity, err := p.password(parts[1], parts[2])
	if err != nil {
		return nil, false, err
	}
	return nil, true, p.finish(user, identity, as)
}

// password checks a name and a password as they came.
func (x *exchange) password(name, pass []byte) (user, identity string, err error) {
	if user, err = Prepare(string(name)); err != nil {
		return "", "", err
	}
	prepared, err := Prepare(string(pass))
	if err != nil {
		return "", "", err
	}
	identity, err = x.a.Password(x.ctx, user, prepared)
	return user, identity, classify(err)
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
		user, identity, err := l.password(l.user, response)
		if err != nil {
			return nil, false, err
		}
		return nil, true, l.finish(user, identity, "")
	}
	return nil, false, errSyntax
}
