package imapserver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

// URLAUTH (RFC 4467): a URL that carries the right to read what it names. The key of a mailbox
// is an annotation of it that clients do not see, so that it follows the mailbox; only owners
// have one. A token is the number of the algorithm, 1, and the HMAC-SHA-256 of the rump.
const urlKeyEntry = hiddenEntries + "urlauth"

const urlAlgorithm = 1

func urlToken(key, rump string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(h, rump)
	return h.Sum([]byte{urlAlgorithm})
}

// urlKeys returns what keeps the keys of an account, and where a mailbox of its own is there.
func (a *account) urlKeys(ctx context.Context, mailbox string) (imap.Annotations, string, error) {
	if imap.CheckName(mailbox) != nil {
		return nil, "", imap.ErrNoMailbox
	}
	p, err := a.place(ctx, mailbox)
	if err != nil {
		return nil, "", err
	}
	keys, ok := imap.UpgradeStore[imap.Annotations](p.store)
	if !ok || p.owner != a.identity {
		return nil, "", imap.ErrNoPermission
	}
	return keys, p.name, nil
}

// urlKey returns a mailbox's key, empty when there is none. A fresh one replaces it.
func (a *account) urlKey(ctx context.Context, mailbox string, fresh bool) (string, error) {
	keys, name, err := a.urlKeys(ctx, mailbox)
	if err != nil {
		return "", err
	}
	if fresh {
		key := rand.Text() + rand.Text()
		return key, keys.Annotate(ctx, name, []imap.Annotation{{Entry: urlKeyEntry, Value: key}})
	}
	entries, err := keys.Annotations(ctx, name)
	return entries[urlKeyEntry], err
}

func (c *conn) cmdResetKey(ctx context.Context) reply {
	mailbox, mechs := "", 0
	one := c.dec.OK() && !c.dec.AtEnd()
	if one {
		c.dec.SP()
		mailbox = c.mailbox()
		for ; c.dec.OK() && c.dec.Accept(' '); mechs++ {
			if c.dec.Word() != "INTERNAL" {
				c.dec.Fail("no such mechanism")
			}
		}
	}
	if !c.end() {
		return c.syntax()
	}
	c.server.urlKeys.Lock()
	defer c.server.urlKeys.Unlock()
	if one {
		if _, err := c.account.urlKey(ctx, mailbox, true); err != nil {
			return c.failed(err)
		}
		key := c.account.boxKey(ctx, mailbox)
		c.didResetKey(func(b *box) bool { return b.key == key })
		return reply{status: "OK", code: "URLMECH INTERNAL", text: "a new key"}
	}
	for info, err := range c.account.store.Mailboxes(ctx) {
		if err != nil || info.NoSelect {
			continue
		}
		keys, name, err := c.account.urlKeys(ctx, info.Name)
		if err == nil {
			err = keys.Annotate(ctx, name, []imap.Annotation{{Entry: urlKeyEntry, Remove: true}})
		}
		if err != nil && !errors.Is(err, imap.ErrNoMailbox) && !notAllowed(err) {
			return c.failed(err)
		}
	}
	c.didResetKey(func(*box) bool { return true })
	return ok("all keys are removed")
}

// boxKey returns the key of a mailbox's box.
func (a *account) boxKey(ctx context.Context, mailbox string) string {
	mb, err := a.store.Open(ctx, mailbox)
	if err != nil {
		return ""
	}
	defer mb.Close()
	st, err := mb.State(ctx)
	if err != nil {
		return ""
	}
	return orElse(st.ID, "name:"+mailbox)
}

// didResetKey has the sessions that selected such mailboxes told (RFC 4467, 7), but for the
// own one, which hears it at once.
func (c *conn) didResetKey(which func(*box) bool) {
	c.account.mu.Lock()
	defer c.account.mu.Unlock()
	for _, b := range c.account.boxes {
		if !which(b) {
			continue
		}
		n := b.keyResets.Add(1)
		if c.sel != nil && c.sel.box == b {
			c.sel.keyResets = n
		}
		b.wake()
	}
}

func (c *conn) tellKeyReset() {
	if n := c.sel.box.keyResets.Load(); n != c.sel.keyResets {
		c.sel.keyResets = n
		c.enc.Raw("* OK [URLMECH INTERNAL] a new key").CRLF()
	}
}

// describeURLMech tells, where a mailbox has a key, that there may be URLs of it (RFC 4467, 8).
func (c *conn) describeURLMech(ctx context.Context) {
	if key, err := c.account.urlKey(ctx, c.sel.name, false); err == nil && key != "" {
		c.enc.Raw("* OK [URLMECH INTERNAL] its URLs can carry authorization").CRLF()
	}
}

// maxURLs bounds the URLs of one command.
const maxURLs = 1000

func (c *conn) cmdGenURLAuth(ctx context.Context) reply {
	var rumps []string
	var urls []imapURL
	for len(rumps) == 0 || c.dec.OK() && !c.dec.AtEnd() {
		c.dec.SP()
		rump := c.dec.AString()
		c.dec.SP()
		if c.dec.Word() != "INTERNAL" {
			c.dec.Fail("no such mechanism")
		}
		u, err := parseURL(rump)
		switch {
		case err != nil:
			c.dec.Fail("malformed URL")
		case u.access == "":
			c.dec.Fail("missing access identifier in supplied URL")
		case u.user == "":
			c.dec.Fail("missing owner username in supplied URL")
		case u.token != nil || len(rumps) >= maxURLs || strings.ContainsFunc(rump, isControl):
			c.dec.Fail("no such URL")
		}
		rumps, urls = append(rumps, rump), append(urls, u)
	}
	if !c.end() {
		return c.syntax()
	}
	c.server.urlKeys.Lock() // two who find no key make one
	defer c.server.urlKeys.Unlock()
	var full []string
	for i, u := range urls {
		if !u.names(c.identity) {
			return bad("the URL is another's")
		}
		key, err := c.account.urlKey(ctx, u.mailbox, false)
		if err == nil && key == "" {
			key, err = c.account.urlKey(ctx, u.mailbox, true)
		}
		switch {
		case errors.Is(err, imap.ErrNoMailbox), errors.Is(err, imap.ErrNotSelectable), notAllowed(err):
			return bad("no such mailbox")
		case err != nil:
			return c.failed(err)
		}
		full = append(full, rumps[i]+":internal:"+hex.EncodeToString(urlToken(key, rumps[i])))
	}
	c.enc.Raw("* GENURLAUTH")
	for _, s := range full {
		c.enc.SP().String(s)
	}
	c.enc.CRLF()
	return ok("these carry authorization")
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f }

var errURLRefused = errors.New("the URL does not authorize this")

// openedURL is what a URL names.
type openedURL struct {
	message
	item  fetchItem
	leave func()
}

func (o *openedURL) close() {
	o.message.close()
	if o.mb != nil {
		_ = o.mb.Close()
	}
	o.leave()
}

// openURL opens what a URL names with the rights of its owner, if it authorizes the session's
// user. Own ones need no authorization when plain ones are taken, too.
func (c *conn) openURL(ctx context.Context, raw string, plain bool) (*openedURL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	plain = plain && u.access == "" && u.names(c.identity)
	if !plain && (u.token == nil || u.mech != "INTERNAL" || !c.mayUse(&u)) {
		return nil, errURLRefused
	}
	a, leave, err := c.ownerOf(ctx, &u)
	if err != nil {
		return nil, err
	}
	o := &openedURL{item: u.item, leave: leave, message: message{uid: u.uid}}
	if err = c.openURLMessage(ctx, a, &u, o, plain); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (c *conn) openURLMessage(ctx context.Context, a *account, u *imapURL, o *openedURL, plain bool) (err error) {
	if !plain {
		key, err := a.urlKey(ctx, u.mailbox, false)
		if key == "" {
			key = rand.Text() // so that a mailbox that is not there takes as long (RFC 4467, 6)
		}
		if valid := hmac.Equal(urlToken(key, u.rump), u.token); err != nil || !valid {
			return errors.Join(errURLRefused, err)
		}
	}
	if o.mb, err = a.store.Open(ctx, u.mailbox); err != nil {
		return err
	}
	if u.uidValidity != 0 {
		st, err := o.mb.State(ctx)
		if err != nil || st.UIDValidity != u.uidValidity {
			return errors.Join(errURLRefused, err)
		}
	}
	return nil
}

// mayUse reports whether the session's user is one whom the URL is for, and in time.
func (c *conn) mayUse(u *imapURL) bool {
	if !u.expires.IsZero() && time.Now().After(u.expires) {
		return false
	}
	switch u.access {
	case "user+":
		return u.accessUser == c.identity
	case "submit+":
		return c.server.Submitter != nil && c.server.Submitter(c.identity)
	case "authuser":
		return c.identity != "" && !equalFold(c.identity, "anonymous")
	}
	return true
}

// ownerOf returns the account of a URL's owner; leave must be called in the end. Others'
// accounts are opened only where the server knows that there is such an owner.
func (c *conn) ownerOf(ctx context.Context, u *imapURL) (a *account, leave func(), err error) {
	if u.names(c.identity) {
		return c.account, func() {}, nil
	}
	for _, owner := range []string{u.user, u.user + "@" + u.host} {
		known, err := c.server.isOwner(ctx, c.identity, owner)
		if err != nil {
			return nil, nil, err
		}
		if known {
			a, err := c.server.account(ctx, owner)
			return a, func() { c.server.leave(a) }, err
		}
	}
	return nil, nil, errURLRefused
}

// urlRequest is one argument of URLFETCH: a URL and, in parentheses, what is wanted of it
// (RFC 5524).
type urlRequest struct {
	url                     string
	body, binary, structure bool
}

func (c *conn) urlRequest() (r urlRequest) {
	if c.dec.Peek() != '(' {
		r.url = c.dec.AString()
		return r
	}
	c.dec.List(func() {
		if r.url == "" {
			r.url = c.dec.AString()
			return
		}
		on := &r.body
		switch c.dec.Word() {
		case "BODY":
		case "BINARY":
			on = &r.binary
		case "BODYPARTSTRUCTURE":
			on = &r.structure
		default:
			c.dec.Fail("no such parameter")
		}
		if *on {
			c.dec.Fail("a parameter twice")
		}
		*on = true
	})
	if r.url == "" || r.body && r.binary {
		c.dec.Fail("BODY and BINARY exclude each other")
	}
	return r
}

func (c *conn) cmdURLFetch(ctx context.Context) reply {
	var wanted []urlRequest
	for len(wanted) == 0 || c.dec.OK() && !c.dec.AtEnd() {
		c.dec.SP()
		if wanted = append(wanted, c.urlRequest()); len(wanted) > maxURLs {
			c.dec.Fail("too many URLs")
		}
	}
	if !c.end() {
		return c.syntax()
	}
	for _, r := range wanted {
		if err := c.fetchURL(ctx, r); err != nil {
			return c.failed(err)
		}
	}
	if err := c.enc.Err(); err != nil {
		return broken(err)
	}
	return ok("fetched")
}

// fetchURL answers one request. What cannot be had, for whatever reason, is NIL.
func (c *conn) fetchURL(ctx context.Context, r urlRequest) error {
	o, err := c.openURL(ctx, r.url, false)
	var octets io.Reader
	var size int64
	if err == nil {
		defer o.close()
		octets, size, err = o.octets(ctx, &o.item)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.enc.Raw("* URLFETCH ").String(r.url)
	switch {
	case err != nil:
		c.enc.Raw(" NIL")
	case !r.body && !r.binary && !r.structure:
		c.enc.SP().Literal(octets, size, false)
	default:
		c.urlParts(ctx, r, o, octets, size)
	}
	c.enc.CRLF()
	return nil
}

// urlParts writes what RFC 5524, 3.2 has for a URL.
func (c *conn) urlParts(ctx context.Context, r urlRequest, o *openedURL, octets io.Reader, size int64) {
	var part *mimetree.Part
	if o.item.text == mimetree.Whole && len(o.item.fields) == 0 && o.parse(ctx) == nil {
		part = o.tree.Find(o.item.number)
	}
	var decoded *decodedPart
	if r.binary && part != nil && len(o.item.number) > 0 && !part.IsMultipart() {
		decoded = decodePart(&o.message, part)
	}
	if r.structure && part != nil {
		c.enc.Raw(" (BODYPARTSTRUCTURE ").Bytes(decoded.structure(part, c.enc.UTF8)).Raw(")")
	}
	switch {
	case r.body:
		c.enc.Raw(" (BODY ").Literal(octets, size, false).Raw(")")
	case decoded != nil && decoded.unknown:
		c.enc.Raw(" (BINARY NIL)")
	case r.binary && decoded != nil:
		from, n := int64(0), decoded.size
		if o.item.partial {
			from = min(o.item.offset, n)
			n = min(o.item.count, n-from)
		}
		content := decoded.open()
		_, _ = io.CopyN(io.Discard, content, from)
		c.enc.Raw(" (BINARY ").Literal(content, n, decoded.has.nul).Raw(")")
	case r.binary:
		c.enc.Raw(" (BINARY ").Literal(octets, size, false).Raw(")")
	}
}

// decodedPart is a part without its transfer encoding.
type decodedPart struct {
	open    func() io.Reader
	size    int64
	has     octetKinds
	changed bool // there was an encoding
	unknown bool // that nobody knows
}

func decodePart(m *message, p *mimetree.Part) *decodedPart {
	d := &decodedPart{changed: slices.Contains([]string{"base64", "quoted-printable"}, strings.ToLower(p.Encoding))}
	d.open = func() io.Reader {
		r, _ := decodeTransfer(p.Encoding, m.reader(p.Body, p.End))
		return r
	}
	if _, known := decodeTransfer(p.Encoding, nil); !known {
		d.unknown = true
		return d
	}
	d.size, _ = io.Copy(&d.has, d.open())
	return d
}

// structure is the BODYSTRUCTURE of a part, as it is after decoding. Lines of decoded text are
// not counted.
func (d *decodedPart) structure(p *mimetree.Part, utf8 bool) []byte {
	if d == nil || !d.changed {
		return p.AppendStructure(nil, true, utf8)
	}
	q := *p
	q.Body, q.End, q.Lines, q.Encoding = 0, d.size, 0, d.has.encoding()
	return q.AppendStructure(nil, true, utf8)
}

// octetKinds finds out what octets there are.
type octetKinds struct{ nul, high bool }

func (k *octetKinds) Write(p []byte) (int, error) {
	k.nul = k.nul || bytes.IndexByte(p, 0) >= 0
	for i := 0; !k.high && i < len(p); i++ {
		k.high = p[i] >= 0x80
	}
	return len(p), nil
}

func (k octetKinds) encoding() string {
	switch {
	case k.nul:
		return "binary"
	case k.high:
		return "8bit"
	}
	return "7bit"
}
