package imapclient

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/mailblocks/mailblocks/imap/internal/inflate"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// mayLogIn refuses to send credentials in the clear.
func (c *Client) mayLogIn() error {
	if !c.TLS() && !c.opt.InsecureAuth {
		return ErrNeedTLS
	}
	return nil
}

func (c *Client) enter(s State) {
	c.mu.Lock()
	if c.state != LoggedOut {
		c.state = s
	}
	c.mu.Unlock()
}

// Login authenticates with LOGIN (RFC 9051, 6.2.3). Auth with PLAIN does the same, and is
// better where names or passwords are not ASCII.
func (c *Client) Login(ctx context.Context, user, password string) error {
	if err := c.mayLogIn(); err != nil {
		return err
	}
	if strings.Contains(user+password, "\x00") {
		return errLineEnd
	}
	if disabled, err := c.Has(ctx, "LOGINDISABLED"); err != nil {
		return err
	} else if disabled {
		return fmt.Errorf("%w: it announces LOGINDISABLED", ErrNoCapability)
	}
	cmd := &command{name: "LOGIN", alone: true, renews: true, success: func() { c.enter(Authenticated) }}
	_, err := c.run(ctx, cmd, func(w *writer) { w.sp().str(user).sp().str(password) })
	return err
}

// Auth authenticates with a SASL mechanism (RFC 9051, 6.2.2), its initial response in the
// command where the server has SASL-IR (RFC 4959). A context that ends in the middle closes
// the connection.
func (c *Client) Auth(ctx context.Context, mech sasl.Client) error {
	if err := c.mayLogIn(); err != nil {
		return err
	}
	early, err := c.Has(ctx, "SASL-IR")
	if err != nil {
		return err
	}
	name, initial, err := mech.Start()
	if err != nil {
		return err
	}
	if err := checkAtoms(name); err != nil {
		return err
	}
	late := initial != nil
	cmd := &command{name: "AUTHENTICATE", alone: true, renews: true, success: func() { c.enter(Authenticated) }}
	var failed error
	_, err = c.run(ctx, cmd, func(w *writer) {
		w.sp().raw(name)
		if early && late {
			late = false
			if len(initial) == 0 {
				w.raw(" =")
			} else {
				w.sp().raw(base64.StdEncoding.EncodeToString(initial))
			}
		}
		w.raw("\r\n")
		for {
			text, more := w.challenge()
			if !more {
				return
			}
			response, err := initial, error(nil)
			if !late {
				response, err = next(mech, text)
			}
			if late = false; err != nil {
				failed = err
				w.raw("*\r\n") // the server answers that with BAD
			} else {
				w.raw(base64.StdEncoding.EncodeToString(response)).raw("\r\n")
			}
		}
	})
	if failed != nil {
		return failed
	}
	if p, ok := mech.(interface{ Proved() error }); ok && err == nil { // of mechanisms that have the server prove itself
		return p.Proved()
	}
	return err
}

func next(mech sasl.Client, challenge string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(challenge)
	if err != nil {
		return nil, fmt.Errorf("%w: challenge is not base64", ErrProtocol)
	}
	return mech.Next(b)
}

// Unauthenticate ends the login but not the connection (RFC 8437), for another login. It ends
// compression, too; a server that refuses it then loses the connection.
func (c *Client) Unauthenticate(ctx context.Context) error {
	if err := c.need(ctx, "UNAUTHENTICATE"); err != nil {
		return err
	}
	cmd := &command{name: "UNAUTHENTICATE", alone: true, renews: true, success: func() {
		c.deselect()
		c.mu.Lock()
		c.state = NotAuthenticated
		c.enabled = make(map[string]bool)
		c.mu.Unlock()
	}}
	cmd.upgrade = c.inflated
	deflated := false
	_, err := c.run(ctx, cmd, func(w *writer) {
		deflated = c.Compressed()
		c.out.last = deflated
	})
	var refused *Error
	if deflated && errors.As(err, &refused) {
		c.fail(err)
	}
	return err
}

// inflated ends the server's compressed stream, where it says so.
func (c *Client) inflated() error {
	if c.flate == nil {
		return nil
	}
	_, err := c.br.Peek(1)
	rest, ended := c.flate.in.Ended()
	if err != io.EOF || !ended {
		return fmt.Errorf("%w: the compressed stream goes on: %w", ErrProtocol, cmp.Or(err, io.ErrNoProgress))
	}
	c.reads(io.MultiReader(bytes.NewReader(rest), c.flate.behind))
	c.mu.Lock()
	c.flate = nil
	c.mu.Unlock()
	return nil
}

// Enable enables extensions (RFC 5161) and returns those that the server enabled by that.
func (c *Client) Enable(ctx context.Context, capabilities ...string) ([]string, error) {
	if err := c.need(ctx, "ENABLE"); err != nil {
		return nil, err
	}
	if err := checkAtoms(capabilities...); err != nil {
		return nil, err
	}
	var got []string
	cmd := &command{name: "ENABLE", alone: true, take: func(r any) bool {
		list, ok := r.(enabledList)
		if ok {
			c.mu.Lock()
			// A new map: names on the wire depend on it, and others may be looking.
			c.enabled = maps.Clone(c.enabled)
			for _, name := range list {
				name = strings.ToUpper(name)
				got = append(got, name)
				c.enabled[name] = true
			}
			if c.enabled["QRESYNC"] {
				c.enabled["CONDSTORE"] = true
			}
			c.mu.Unlock()
		}
		return ok
	}}
	_, err := c.run(ctx, cmd, func(w *writer) {
		for _, name := range capabilities {
			w.sp().raw(name)
		}
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// ID tells the server who the client is and returns what it tells of itself (RFC 2971). Field
// names come in lower case. Nil tells nothing.
func (c *Client) ID(ctx context.Context, id map[string]string) (map[string]string, error) {
	if err := c.need(ctx, "ID"); err != nil {
		return nil, err
	}
	var got map[string]string
	cmd := &command{name: "ID", take: func(r any) bool {
		params, ok := r.(idResponse)
		if ok {
			got = params
		}
		return ok
	}}
	_, err := c.run(ctx, cmd, func(w *writer) {
		if len(id) == 0 {
			w.raw(" NIL")
			return
		}
		w.sp().list(slices.Sorted(maps.Keys(id)), func(name string) { w.str(name).sp().str(id[name]) })
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// Noop does nothing: it shows whether the server is still there, and has it tell what changed.
func (c *Client) Noop(ctx context.Context) error { return c.simple(ctx, "NOOP") }

// Check asks for a checkpoint of the mailbox (RFC 3501, 6.4.1).
func (c *Client) Check(ctx context.Context) error { return c.simple(ctx, "CHECK") }

// Logout ends the session and closes the connection.
func (c *Client) Logout(ctx context.Context) error {
	c.enter(LoggedOut)
	_, err := c.run(ctx, &command{name: "LOGOUT", alone: true}, nil)
	_ = c.Close()
	return err
}

// Namespace is a prefix under which mailboxes are, and the character between levels there.
type Namespace struct {
	Prefix string
	Delim  string // empty: there are no levels
}

// Namespaces are those of the user (RFC 2342).
type Namespaces struct {
	Personal, Others, Shared []Namespace
}

// Namespace returns the namespaces.
func (c *Client) Namespace(ctx context.Context) (*Namespaces, error) {
	if err := c.need(ctx, "NAMESPACE"); err != nil {
		return nil, err
	}
	return one[*Namespaces](ctx, c, &command{name: "NAMESPACE"}, nil)
}

// one runs a command that is answered by one response of type T.
func one[T any](ctx context.Context, c *Client, cmd *command, args func(w *writer)) (T, error) {
	var got T
	found := false
	cmd.take = func(r any) bool {
		x, ok := r.(T)
		if ok {
			got, found = x, true
		}
		return ok
	}
	_, err := c.run(ctx, cmd, args)
	if err == nil && !found {
		err = fmt.Errorf("%w: no answer to %s", ErrProtocol, cmd.name)
	}
	if err != nil {
		var none T
		return none, err
	}
	return got, nil
}

func takeNamespaces(c *Client, d *wire.Decoder) (list []Namespace) {
	if d.AcceptWord("NIL") {
		return nil
	}
	d.Expect('(')
	for d.OK() && !d.Accept(')') {
		d.Accept(' ')
		var n Namespace
		d.Expect('(')
		n.Prefix = c.decodeName(d.AString())
		d.SP()
		n.Delim = nstring(d)
		for d.OK() && d.Accept(' ') {
			skipValue(d)
		}
		d.Expect(')')
		list = append(list, n)
	}
	return list
}

// Language asks for human-readable text in the first of the languages that the server has
// (RFC 5255, 3), and returns the one it took; without an argument, those that it has.
func (c *Client) Language(ctx context.Context, prefer ...string) ([]string, error) {
	if err := c.need(ctx, "LANGUAGE"); err != nil {
		return nil, err
	}
	l, err := one[languages](ctx, c, &command{name: "LANGUAGE"}, func(w *writer) {
		for _, tag := range prefer {
			w.sp().astring(tag)
		}
	})
	return l, err
}

// A Comparator is how the server compares text when it searches and sorts (RFC 5255, 4.7).
type Comparator struct {
	Active   string
	Matching []string // those that matched what was asked for
}

// Comparator makes the first comparator that the server has the active one; without an
// argument it asks for the active one.
func (c *Client) Comparator(ctx context.Context, prefer ...string) (*Comparator, error) {
	if err := c.need(ctx, "I18NLEVEL=2"); err != nil {
		return nil, err
	}
	return one[*Comparator](ctx, c, &command{name: "COMPARATOR"}, func(w *writer) {
		for _, name := range prefer {
			w.sp().str(name)
		}
	})
}

func takeComparator(_ *Client, d *wire.Decoder) any {
	r := new(Comparator)
	d.SP()
	r.Active = d.AString()
	if d.Accept(' ') {
		r.Matching = takeStrings(d)
	}
	return r
}

// Compressed reports whether the connection is compressed.
func (c *Client) Compressed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flate != nil
}

// Compress compresses the connection from here on (RFC 4978).
func (c *Client) Compress(ctx context.Context) error {
	if err := c.need(ctx, "COMPRESS=DEFLATE"); err != nil {
		return err
	}
	if c.Compressed() {
		return nil
	}
	cmd := &command{name: "COMPRESS", alone: true}
	cmd.upgrade = func() error {
		f := new(deflater)
		var err error
		if f.w, err = flate.NewWriter(&f.buf, flate.DefaultCompression); err != nil {
			return err
		}
		f.behind, f.in = c.br, inflate.NewReader(c.br) // with what of it has come already
		c.mu.Lock()
		c.flate = f
		c.mu.Unlock()
		c.reads(f.in)
		return nil
	}
	_, err := c.run(ctx, cmd, func(w *writer) { w.raw(" DEFLATE") })
	return err
}

// A deflater compresses what is sent. Of what comes it knows where that begins.
type deflater struct {
	w      *flate.Writer
	buf    bytes.Buffer
	in     *inflate.Reader
	behind io.Reader // of in
}

// write sends p so that the server can read all of it, and ends the stream with the last.
func (f *deflater) write(to io.Writer, p []byte, last bool) (int, error) {
	f.buf.Reset()
	if _, err := f.w.Write(p); err != nil {
		return 0, err
	}
	flush := f.w.Flush
	if last {
		flush = f.w.Close
	}
	if err := flush(); err != nil {
		return 0, err
	}
	if _, err := to.Write(f.buf.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
