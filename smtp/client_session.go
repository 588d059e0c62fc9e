package smtp

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
)

// errArgument says that the caller gave something that no command can carry.
var errArgument = errors.New("smtp: argument can not be sent")

// cmd sends a command and reads its reply. An error is returned with replies of 4xx and 5xx, too.
func (c *Client) cmd(timeout time.Duration, line string) (*Reply, error) {
	if err := c.put(line); err != nil {
		return nil, err
	}
	r, err := c.read(timeout)
	if err == nil && r.Code >= 400 {
		err = r
	}
	return r, err
}

// put buffers a command line. Nothing that could end it early leaves this function.
func (c *Client) put(line string) error {
	for i := 0; i < len(line); i++ {
		if ch := line[i]; ch < ' ' || ch == 0x7f {
			return fmt.Errorf("%w: control character in %q", errArgument, line)
		}
	}
	if c.opt.Log != nil {
		c.opt.Log(true, line)
	}
	if _, err := c.bw.WriteString(line); err != nil {
		return c.lastWords(err)
	}
	if _, err := c.bw.WriteString("\r\n"); err != nil {
		return c.lastWords(err)
	}
	return nil
}

// hello says EHLO, or HELO to those who don't know it; LMTP says LHLO.
func (c *Client) hello() error {
	c.phase = PhaseHello
	c.ext = nil
	verb := "EHLO "
	if c.opt.LMTP {
		verb = "LHLO "
	}
	r, err := c.cmd(c.opt.CommandTimeout, verb+c.opt.Hello)
	if err == nil && !r.OK() {
		err = r
	}
	if err == nil {
		c.ext = parseExtensions(r.Text)
		return nil
	}
	if c.opt.LMTP || r == nil || !r.Permanent() {
		return err
	}
	r, err = c.cmd(c.opt.CommandTimeout, "HELO "+c.opt.Hello)
	if err == nil && !r.OK() {
		err = r
	}
	return err
}

// parseExtensions reads the lines behind the first of an EHLO reply.
func parseExtensions(text string) map[string]string {
	ext := make(map[string]string)
	_, rest, _ := strings.Cut(text, "\n")
	for line := range strings.SplitSeq(rest, "\n") {
		key, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "" {
			continue
		}
		key = strings.ToUpper(key)
		if k, p, ok := strings.Cut(key, "="); ok && k == "AUTH" { // AUTH=LOGIN, of old
			key, params = k, p+" "+params
		}
		if have, ok := ext[key]; ok && key == "AUTH" {
			params = have + " " + params
		}
		ext[key] = strings.TrimSpace(params)
	}
	return ext
}

// startTLS does STARTTLS (RFC 3207) and says EHLO anew.
func (c *Client) startTLS(ctx context.Context) error {
	c.phase = PhaseTLS
	r, err := c.cmd(c.opt.CommandTimeout, "STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return r
	}
	if c.br.Buffered() > 0 {
		return errInjectedReply
	}
	if err := c.handshake(ctx); err != nil {
		return err
	}
	return c.hello()
}

func (c *Client) handshake(ctx context.Context) error {
	cfg := c.opt.TLS
	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName = c.host
	}
	return c.secure(ctx, tls.Client(c.conn, cfg))
}

// secure runs t's handshake and goes on over it.
func (c *Client) secure(ctx context.Context, t *tls.Conn) error {
	c.phase = PhaseTLS
	if err := t.SetDeadline(time.Now().Add(c.opt.HandshakeTimeout)); err != nil {
		return err
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := t.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.use(t)
	state := t.ConnectionState()
	c.tls = &state
	return nil
}

// Auth authenticates (RFC 4954). A *Reply error leaves the session standing: another
// mechanism may be tried. ClientOptions.Auth does it on the way up.
func (c *Client) Auth(ctx context.Context, a sasl.Client) error {
	return c.run(ctx, func() error { return c.auth(a) })
}

func (c *Client) auth(a sasl.Client) error {
	if c.tls == nil && !c.opt.InsecureAuth {
		return &ExtensionError{Extension: "STARTTLS"}
	}
	mech, initial, err := a.Start()
	if err != nil {
		return fmt.Errorf("%w: %w", errArgument, err)
	}
	if !c.offers(mech) {
		return &ExtensionError{Extension: "AUTH " + mech}
	}
	line := "AUTH " + mech
	if initial != nil {
		code := "="
		if len(initial) > 0 {
			code = base64.StdEncoding.EncodeToString(initial)
		}
		// RFC 4954, 4: an initial response that makes the line too long waits for the challenge.
		if len(line)+len(code)+3 <= 510 {
			line += " " + code
			initial = nil
		}
	}
	if c.opt.Log != nil {
		c.opt.Log(true, "AUTH "+mech)
	}
	r, err := c.secret(line)
	for {
		if err != nil {
			return err
		}
		if r.Code != 334 {
			break
		}
		challenge, err := base64.StdEncoding.DecodeString(r.Text)
		var response []byte
		if err == nil {
			if initial != nil {
				response, initial = initial, nil
			} else {
				response, err = a.Next(challenge)
			}
		}
		if err != nil {
			if r, cancelErr := c.secret("*"); cancelErr != nil && r == nil {
				return cancelErr
			}
			return fmt.Errorf("%w: %s: %w", errArgument, mech, err)
		}
		if r, err = c.secret(base64.StdEncoding.EncodeToString(response)); err != nil {
			return err
		}
	}
	if r.Code != 235 {
		return fmt.Errorf("%w: %w", ErrProtocol, r)
	}
	if p, ok := a.(interface{ Proved() error }); ok { // of mechanisms that have the server prove itself
		return p.Proved()
	}
	return nil
}

// secret is cmd for what must not be logged.
func (c *Client) secret(line string) (*Reply, error) {
	log := c.opt.Log
	c.opt.Log = nil
	err := c.put(line)
	c.opt.Log = log
	if err != nil {
		return nil, err
	}
	r, err := c.read(c.opt.CommandTimeout)
	if err == nil && r.Code >= 400 {
		err = r
	}
	return r, err
}

func (c *Client) offers(mech string) bool {
	for m := range strings.FieldsSeq(c.ext["AUTH"]) {
		if strings.EqualFold(m, mech) {
			return true
		}
	}
	return false
}

// Reset gives the open transaction up (RSET).
func (c *Client) Reset(ctx context.Context) error {
	return c.run(ctx, func() error {
		r, err := c.cmd(c.opt.CommandTimeout, "RSET")
		if err == nil && !r.OK() {
			err = r
		}
		if err == nil {
			c.inTx = false
		}
		return err
	})
}

// Noop does nothing, which shows whether the server is still there.
func (c *Client) Noop(ctx context.Context) error {
	return c.run(ctx, func() error {
		_, err := c.cmd(c.opt.CommandTimeout, "NOOP")
		return err
	})
}

// XClient tells a server that trusts this host whose session it carries (XCLIENT), by attributes such as "ADDR"
// and "LOGIN" in any order; values are encoded here. The session begins anew: EHLO is said again. A
// server that does not offer XCLIENT, or not an attribute, is an ExtensionError.
func (c *Client) XClient(ctx context.Context, attributes map[string]string) error {
	return c.run(ctx, func() error {
		offered := strings.Fields(strings.ToUpper(c.ext["XCLIENT"]))
		line := []byte("XCLIENT")
		for _, key := range slices.Sorted(maps.Keys(attributes)) {
			if !slices.Contains(offered, strings.ToUpper(key)) {
				return &ExtensionError{Extension: "XCLIENT " + key}
			}
			value := attributes[key]
			if value == "" {
				value = "[UNAVAILABLE]"
			}
			line = appendXtext(append(append(append(line, ' '), key...), '='), value)
		}
		if len(offered) == 0 || len(attributes) == 0 {
			return &ExtensionError{Extension: "XCLIENT"}
		}
		r, err := c.cmd(c.opt.CommandTimeout, string(line))
		if err != nil {
			return err
		}
		if r.Code != 220 {
			return fmt.Errorf("%w: %w", ErrProtocol, r)
		}
		c.inTx = false
		err = c.hello()
		c.phase = PhaseSession
		return err
	})
}

// Verify asks about a user (VRFY). A 252 is the usual answer.
func (c *Client) Verify(ctx context.Context, name string) (*Reply, error) {
	return c.Command(ctx, "VRFY "+name)
}

// Command sends one line and returns the reply, for verbs this package does not know. The
// error is the reply, if that is 4xx or 5xx. It is not for commands that are followed by
// anything else than a reply.
func (c *Client) Command(ctx context.Context, line string) (r *Reply, err error) {
	err = c.run(ctx, func() error {
		r, err = c.cmd(c.opt.CommandTimeout, line)
		return err
	})
	return r, err
}
