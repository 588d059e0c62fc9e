package saslauth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// HashPassword returns the bcrypt hash of a password ("$2a$..."), as htpasswd makes them, once it is
// prepared, see Prepare. Passwords of
// more than 72 octets are an error.
func HashPassword(password string) (string, error) {
	password, err := Prepare(password)
	if err != nil {
		return "", err
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("saslauth: %w", err)
	}
	return string(h), nil
}

// CheckPassword makes an Accounts.Password of a function that looks up a user's bcrypt hash and
// identity (empty means the user name). For an unknown user, when lookup returns
// ErrCredentials, a hash is checked as well, so that it takes as long as a wrong password.
func CheckPassword(lookup func(ctx context.Context, user string) (hash, identity string, err error)) func(ctx context.Context, user, password string) (string, error) {
	nobody := sync.OnceValue(func() []byte {
		h, _ := bcrypt.GenerateFromPassword([]byte("nobody"), bcrypt.DefaultCost)
		return h
	})
	return func(ctx context.Context, user, password string) (string, error) {
		hash, identity, err := lookup(ctx, user)
		if err != nil && !errors.Is(err, ErrCredentials) {
			return "", err
		}
		check := []byte(hash)
		if err != nil {
			check = nobody()
		}
		wrong := bcrypt.CompareHashAndPassword(check, []byte(password))
		switch {
		case err != nil, errors.Is(wrong, bcrypt.ErrMismatchedHashAndPassword), errors.Is(wrong, bcrypt.ErrPasswordTooLong):
			return "", ErrCredentials
		case wrong != nil:
			return "", fmt.Errorf("saslauth: hash of %q: %w", user, wrong)
		}
		if identity == "" {
			identity = user
		}
		return identity, nil
	}
}

// Static makes Accounts of passwords in the clear, by user name: PLAIN, LOGIN and SCRAM. It is meant for
// tests and for the first start of a server. The map is copied.
func Static(passwords map[string]string) (*Accounts, error) {
	prepared := make(map[string]string, len(passwords))
	for user, password := range passwords {
		var err1, err2 error
		if user, err1 = Prepare(user); err1 == nil {
			prepared[user], err2 = Prepare(password)
		}
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
	}
	passwords = prepared
	type key struct{ hash, user string }
	creds := make(map[key]ScramCredentials, 2*len(passwords))
	for user, password := range passwords {
		for _, hash := range [...]string{"SHA-1", "SHA-256"} {
			c, err := NewScramCredentials(hash, password, 0)
			if err != nil {
				return nil, err
			}
			creds[key{hash, user}] = c
		}
	}
	return &Accounts{
		Password: func(_ context.Context, user, password string) (string, error) {
			want, known := passwords[user]
			// Both are hashed so that the comparison tells nothing of their lengths.
			a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(password))
			if !hmac.Equal(a[:], b[:]) || !known {
				return "", ErrCredentials
			}
			return user, nil
		},
		Scram: func(_ context.Context, hash, user string) (ScramCredentials, error) {
			c, known := creds[key{hash, user}]
			if !known {
				return c, ErrCredentials
			}
			return c, nil
		},
		ScramSHA1: true,
	}, nil
}
