package pop3

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/emersion/go-sasl"
)

// Login authenticates with USER and PASS.
func (c *Client) Login(ctx context.Context, user, password string) error {
	return c.login(ctx, func() error {
		if _, err := c.command("USER", user); err != nil {
			return err
		}
		_, err := c.command("PASS", password)
		return err
	})
}

// LoginAPOP authenticates with a digest of the password (RFC 1939, 7), where the server's
// greeting allows it: better than Login without TLS, and no substitute for TLS.
func (c *Client) LoginAPOP(ctx context.Context, user, password string) error {
	if c.stamp == "" {
		return errors.New("pop3: the server offers no APOP")
	}
	return c.login(ctx, func() error {
		sum := md5.Sum([]byte(c.stamp + password))
		_, err := c.command("APOP", user, hex.EncodeToString(sum[:]))
		return err
	})
}

// Auth authenticates with a SASL mechanism (RFC 5034).
func (c *Client) Auth(ctx context.Context, mech sasl.Client) error {
	return c.login(ctx, func() error {
		name, initial, err := mech.Start()
		if err != nil {
			return err
		}
		words := []string{"AUTH", name}
		// An initial response that makes the line too long goes later (RFC 5034, 4).
		late := false
		if initial != nil {
			coded := base64.StdEncoding.EncodeToString(initial)
			if len(initial) == 0 {
				coded = "="
			}
			if late = len(coded)+len(name)+8 > maxCommand; !late {
				words = append(words, coded)
			}
		}
		if err := c.write(words...); err != nil {
			return err
		}
		return c.exchange(mech, initial, late)
	})
}

// exchange answers challenges until the server decides.
func (c *Client) exchange(mech sasl.Client, initial []byte, late bool) error {
	for {
		if err := c.w.Flush(); err != nil {
			return c.fail(err)
		}
		b, err := c.r.Peek(1)
		if err != nil {
			return c.fail(fmt.Errorf("pop3: %w", err))
		}
		if b[0] != '+' {
			_, err := c.reply("AUTH")
			return err
		}
		line, err := c.line()
		if err != nil {
			return err
		}
		if len(line) >= 3 && line[:3] == "+OK" {
			if p, ok := mech.(interface{ Proved() error }); ok { // of mechanisms that have the server prove itself
				return p.Proved()
			}
			return nil
		}
		var response []byte
		if challenge, derr := base64.StdEncoding.DecodeString(trimPlus(line)); derr != nil {
			err = fmt.Errorf("%w: challenge is not base64", ErrProtocol)
		} else if late {
			response, late = initial, false
		} else {
			response, err = mech.Next(challenge)
		}
		if err != nil {
			// Cancel, and let the server answer that.
			if werr := c.write("*"); werr != nil {
				return werr
			}
			_ = c.w.Flush()
			_, _ = c.reply("AUTH")
			return err
		}
		if err := c.write(base64.StdEncoding.EncodeToString(response)); err != nil {
			return err
		}
	}
}

func trimPlus(line string) string {
	if len(line) > 1 && line[1] == ' ' {
		return line[2:]
	}
	return line[1:]
}

// login runs do where credentials may be sent. The capabilities are asked anew after it.
func (c *Client) login(ctx context.Context, do func() error) error {
	if !c.secure && !c.opt.InsecureAuth {
		return ErrNeedTLS
	}
	if err := c.ready(); err != nil {
		return err
	}
	defer c.watch(ctx)()
	if err := do(); err != nil {
		return err
	}
	c.caps = nil
	return nil
}
