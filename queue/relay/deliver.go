package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/smtp"
)

// A delivery is one attempt.
type delivery struct {
	t     *Transport
	a     *queue.Attempt
	body  io.ReadSeeker // of the message; whoever reads it goes to its beginning first
	group []int         // recipients, as indexes, that go to the same hosts
	from  string        // the reverse-path to send with
	src   Source

	ascii      bool // domains of addresses go as A-labels
	untimed    bool // a host that does not know DELIVERBY gets the message
	lax        bool // its sender would rather have it delivered than protected (RFC 8689, 5)
	utf8Header bool // the header has octets beyond ASCII
	eightBit   *bool
}

// examine reads the header before anybody is bothered.
func (d *delivery) examine() (queue.Outcome, bool) {
	limit := d.t.MaxReceived
	if limit == 0 {
		limit = defaultMaxReceived
	}
	h := &headerScan{limit: limit}
	switch err := h.read(d.body); {
	case errors.Is(err, errHops):
		return *failed(queue.Permanent, "5.4.6", "message has gone through more than %d hosts: it loops", limit), false
	case err != nil:
		return *failed(queue.Temporary, "4.3.0", "queued message can not be read"), false
	}
	d.utf8Header, d.lax = h.utf8, h.plain && !d.a.Envelope.RequireTLS
	return queue.Outcome{}, true
}

// isEightBit reports whether the message has octets beyond ASCII at all.
func (d *delivery) isEightBit() bool {
	if d.eightBit == nil {
		found := true // when in doubt
		if _, err := d.body.Seek(0, io.SeekStart); err == nil {
			found = beyondASCII(d.body)
		}
		d.eightBit = &found
	}
	return *d.eightBit
}

func beyondASCII(r io.Reader) bool {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if bytes.ContainsFunc(buf[:n], func(r rune) bool { return r >= 0x80 }) {
			return true
		}
		if err != nil {
			return err != io.EOF
		}
	}
}

// deliver sends to the group, going through the targets until every recipient has an answer.
func (d *delivery) deliver(ctx context.Context, outcomes []queue.Outcome, find func() ([]target, *queue.Outcome)) {
	set := func(o queue.Outcome) {
		for _, i := range d.group {
			outcomes[i] = o
		}
	}
	targets, out := find()
	if out != nil {
		set(*out)
		return
	}
	limit := d.t.MaxHosts
	if limit <= 0 {
		limit = 10
	}
	set(*failed(queue.RouteDown, "4.4.1", "no host could be tried"))
	for targets = targets[:min(len(targets), limit)]; len(targets) > 0 && ctx.Err() == nil; {
		n := sameHost(targets)
		c, left, stop := d.try(ctx, targets[:n], outcomes)
		if d.group = left; stop || len(left) == 0 {
			return
		}
		targets = append(c.left, targets[n:]...)
	}
}

// try sends to one host, by the first of its addresses that answers. It returns the recipients that are left for the
// next target; what is to be said of them if there is none stands in outcomes already. stop: no other host is to be tried.
func (d *delivery) try(ctx context.Context, batch []target, outcomes []queue.Outcome) (c connection, left []int, stop bool) {
	for fresh := false; ; fresh = true {
		c, err := d.t.connect(ctx, batch, d.src, fresh)
		if err != nil {
			for _, i := range d.group {
				outcomes[i] = *connFailed(c.g, err)
			}
			return c, d.group, false
		}
		d.ascii, d.untimed = false, false
		sent := &watched{}
		res, err := d.send(ctx, c.s, sent)
		if c.s.reused && err != nil && res != nil && res.Mail == nil && isConn(err) {
			continue // it had died while it was idle: that is nobody's attempt
		}
		left, stop = d.judge(c.g, c.s, res, err, sent, outcomes)
		d.t.release(c.s, err)
		return c, left, stop
	}
}

func isConn(err error) bool {
	var conn *smtp.ConnError
	return errors.As(err, &conn)
}

// watched notes whether a reader was read to its end: after that the receiver may have the message
// whatever becomes of the connection.
type watched struct {
	io.Reader
	atEnd bool
	err   error // of reading, ours
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err == io.EOF {
		w.atEnd = true
	} else if err != nil {
		w.err = err
	}
	return n, err
}

var errPrepare = errors.New("message could not be prepared")

// send sends the message in session s, without the extensions that it was declared to need when the
// host lacks them and the message does well without.
func (d *delivery) send(ctx context.Context, s *session, sent *watched) (*smtp.Result, error) {
	body := d.body
	params := d.params()
	for range 6 { // more than there are things to do without
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("%w: %w", errPrepare, err)
		}
		sent.Reader = body
		if d.t.Prepare != nil {
			var err error
			if sent.Reader, err = d.t.Prepare(ctx, d.a, body); err != nil {
				return nil, fmt.Errorf("%w: %w", errPrepare, err)
			}
			params.Size = 0
		}
		res, err := s.c.Send(ctx, d.envelope(params), sent)
		var ext *smtp.ExtensionError
		if !errors.As(err, &ext) {
			return res, err
		}
		if d.without(ext.Extension, &params) {
			continue
		}
		seven, ok := d.sevenBit(ext.Extension, &params)
		if !ok {
			return res, err
		}
		body = seven
	}
	return nil, &smtp.ExtensionError{Extension: "8BITMIME"}
}

// sevenBit converts a message whose body a host can not take (RFC 6152, 3), where Downgrade allows it.
func (d *delivery) sevenBit(extension string, p *smtp.MailParams) (io.ReadSeeker, bool) {
	if !d.t.Downgrade || d.utf8Header || p.UTF8 || p.Body == smtp.BodyUnset ||
		extension != "8BITMIME" && extension != "BINARYMIME" && extension != "CHUNKING" {
		return nil, false
	}
	text, err := downgrade(d.body)
	if err != nil {
		return nil, false
	}
	p.Body, p.Size = smtp.BodyUnset, int64(len(text))
	return bytes.NewReader(text), true
}

// without drops what needs an extension if nothing is lost by it.
func (d *delivery) without(extension string, p *smtp.MailParams) bool {
	switch {
	case extension == "DELIVERBY" && p.DeliverBy.Mode == 'N': // RFC 2852, 4.1.4.2
		p.DeliverBy, d.untimed = smtp.DeliverBy{}, true
		return true
	case extension == "SMTPUTF8" && !d.ascii && d.onlyDomains():
		d.ascii = true // RFC 6531, 3.2: an A-label says the same
		return true
	case extension == "8BITMIME" && p.Body == smtp.Body8Bit && !p.UTF8 && !d.isEightBit():
		p.Body = smtp.BodyUnset
		return true
	case (extension == "SMTPUTF8" || extension == "8BITMIME") && p.UTF8 && !d.utf8Header && (d.ascii || d.addressesASCII()):
		p.UTF8 = false
		return true
	}
	return false
}

func (d *delivery) addressesASCII() bool {
	if !isASCII(d.from) {
		return false
	}
	for _, i := range d.group {
		if !isASCII(d.a.Recipients[i].Address) {
			return false
		}
	}
	return true
}

// onlyDomains reports whether no address has more than a domain beyond ASCII, and one has.
func (d *delivery) onlyDomains() bool {
	found := false
	plain := func(address string) bool {
		local, domain := smtp.SplitAddress(address)
		found = found || !isASCII(domain)
		return isASCII(local) && aLabels(address) != ""
	}
	if !plain(d.from) && d.from != "" {
		return false
	}
	for _, i := range d.group {
		if !plain(d.a.Recipients[i].Address) {
			return false
		}
	}
	return found
}

// aLabels writes an address with its domain in ASCII; "" when that can not be.
func aLabels(address string) string {
	local, domain := smtp.SplitAddress(address)
	if isASCII(domain) {
		return address
	}
	name, err := resolver.ToASCII(domain)
	if err != nil {
		return ""
	}
	return local + "@" + strings.TrimSuffix(name, ".")
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// params are those of MAIL.
func (d *delivery) params() smtp.MailParams {
	e := d.a.Envelope
	p := smtp.MailParams{
		Size: d.a.Size, UTF8: e.UTF8, Return: smtp.Return(e.Return), EnvelopeID: e.EnvID,
		RequireTLS: e.RequireTLS, Priority: int(e.Priority),
	}
	switch e.Body {
	case queue.Body8BitMIME:
		p.Body = smtp.Body8Bit
	case queue.BodyBinaryMIME:
		p.Body = smtp.BodyBinary
	}
	if by := &e.DeliverBy; !by.Time.IsZero() { // RFC 2852, 4.1.4.1: what is left of it
		p.DeliverBy = smtp.DeliverBy{Seconds: int64(time.Until(by.Time) / time.Second), Mode: 'N', Trace: by.Trace}
		if by.Return {
			p.DeliverBy.Mode = 'R'
			p.DeliverBy.Seconds = max(p.DeliverBy.Seconds, 1) // the queue has looked whether it is over
		}
	}
	return p
}

// envelope makes the SMTP envelope of the group.
func (d *delivery) envelope(params smtp.MailParams) *smtp.Envelope {
	written := func(address string) string {
		if d.ascii {
			return aLabels(address)
		}
		return address
	}
	env := &smtp.Envelope{From: written(d.from), Params: params}
	for _, i := range d.group {
		r := &d.a.Recipients[i]
		to := smtp.Recipient{Address: written(r.Address), Params: smtp.RcptParams{Notify: smtp.Notify(r.Notify)}}
		if kind, address, ok := strings.Cut(r.ORcpt, ";"); ok {
			to.Params.OriginalType, to.Params.Original = kind, address
		}
		env.To = append(env.To, to)
	}
	return env
}

// judge turns what came of a session into outcomes.
func (d *delivery) judge(g target, s *session, res *smtp.Result, err error, sent *watched, outcomes []queue.Outcome) (left []int, stop bool) {
	set := func(o *queue.Outcome) {
		for _, i := range d.group {
			outcomes[i] = *o
		}
	}
	var ext *smtp.ExtensionError
	switch {
	case errors.Is(err, errPrepare), sent.err != nil:
		set(failed(queue.Temporary, "4.3.0", "message could not be read or prepared for sending"))
		return nil, true
	case errors.As(err, &ext):
		set(lacking(g, ext))
		return d.group, false
	}
	handover := queue.HandoverRelayed
	if g.smart != nil && g.smart.LMTP {
		handover = queue.HandoverFinal
	} else if d.untimed || d.a.Envelope.DeliverBy.Trace {
		handover = queue.HandoverTold
	} else if _, ok := s.c.Extension("DSN"); ok {
		handover = queue.HandoverDSN
	}
	for n, i := range d.group {
		if res != nil && n < len(res.Recipients) && res.Recipients[n] != nil {
			outcomes[i] = answered(g, res.Recipients[n], handover)
			continue
		}
		switch {
		case isConn(err) && sent.atEnd:
			outcomes[i] = *failed(queue.Temporary, "4.4.2", "connection to %s was lost after the message was sent: %v", g.host, cause(err))
			outcomes[i].RemoteMTA = ""
			stop = true
		case isConn(err):
			outcomes[i] = *connFailed(g, err)
			left = append(left, i)
		case err == nil:
			outcomes[i] = *failed(queue.Temporary, "4.5.0", "%s gave no answer for this recipient", g.host)
		default: // nothing was sent, and no other host will like it better
			outcomes[i] = *failed(queue.Permanent, "5.6.0", "message can not be sent: %v", err)
			stop = true
		}
	}
	return left, stop
}

// answered is the outcome of a reply.
func answered(g target, r *smtp.Reply, handover queue.Handover) queue.Outcome {
	o := queue.Outcome{Code: r.Code, Enhanced: r.Enhanced.String(), Text: r.Text, RemoteMTA: g.host}
	switch {
	case r.OK():
		o.Result, o.Handover = queue.Delivered, handover
	case r.Permanent():
		o.Result = queue.Permanent
	default:
		o.Result = queue.Temporary
	}
	return o
}

// lacking is the outcome of a host without an extension that the message needs.
func lacking(g target, e *smtp.ExtensionError) *queue.Outcome {
	code := "5.6.3" // conversion required but not supported
	switch e.Extension {
	case "SMTPUTF8":
		code = "5.6.7" // RFC 6531, 3.5
	case "REQUIRETLS":
		code = "5.7.30" // RFC 8689, 4.2.1
	case "DELIVERBY":
		code = "5.3.3" // RFC 2852, 4.1.4.2: a message to be returned in time goes to hosts that do so
	}
	return failed(queue.Permanent, code, "%s does not offer %s, which the message needs", g.host, e.Extension)
}

// connFailed is the outcome of a connection that did not come up, or broke.
func connFailed(g target, err error) *queue.Outcome {
	o := failed(queue.RouteDown, "4.4.1", "%s: %v", where(g), cause(err))
	var conn *smtp.ConnError
	if errors.As(err, &conn) {
		switch conn.Phase {
		case smtp.PhaseTLS:
			o.Enhanced = "4.7.5"
		case smtp.PhaseAuth:
			o.Enhanced = "4.7.0"
		case smtp.PhaseSession:
			o.Enhanced = "4.4.2"
		}
	}
	var reply *smtp.Reply
	if errors.As(err, &reply) {
		o.Code, o.Text, o.RemoteMTA = reply.Code, reply.Text, g.host
		if code := reply.Enhanced.String(); code != "" {
			o.Enhanced = code
		}
	}
	return o
}

func where(g target) string {
	host, _, err := net.SplitHostPort(g.addr)
	if err != nil || host == g.host {
		return g.host
	}
	return g.host + " (" + host + ")"
}

// cause leaves out what a reader of the report knows or does not need: our own address, the package.
func cause(err error) error {
	var conn *smtp.ConnError
	if errors.As(err, &conn) {
		err = conn.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

func (t *Transport) key(g target, src Source) poolKey {
	k := poolKey{addr: g.addr, host: g.host, level: g.security.Level, config: g.security.Config, key: g.security.Key, smart: g.smart, src: src}
	if k.key != "" {
		k.config = nil
	}
	return k
}

// open brings up a session on a connection to a target.
func (t *Transport) open(ctx context.Context, g target, src Source, conn net.Conn) (*session, error) {
	opt := t.Client
	opt.Hello, opt.LMTP, opt.Auth = t.hostname(), false, nil
	if src.Hello != "" {
		opt.Hello = src.Hello
	}
	opt.Dial = t.once(conn, g, src)
	if g.smart != nil {
		opt.LMTP, opt.InsecureAuth = g.smart.LMTP, g.smart.InsecureAuth
	}
	opt.TLS = &tls.Config{}
	if g.security.Config != nil {
		opt.TLS = g.security.Config.Clone()
	}
	if opt.TLS.ServerName == "" {
		opt.TLS.ServerName = g.host
	}
	var observed error
	switch g.security.Level {
	case Plain:
		opt.TLSPolicy = smtp.TLSNever
	case Opportunistic:
		opt.TLSPolicy = smtp.TLSOpportunistic
		if g.security.Observe {
			observe(opt.TLS, &observed)
		}
		opt.TLS.InsecureSkipVerify = true
	case Encrypted:
		opt.TLSPolicy, opt.TLS.InsecureSkipVerify = smtp.TLSRequired, true
	default:
		opt.TLSPolicy = smtp.TLSRequired
	}
	start := func() (*smtp.Client, error) {
		opt := opt
		if g.smart != nil && g.smart.Auth != nil {
			opt.Auth = g.smart.Auth()
		}
		if g.smart != nil && g.smart.ImplicitTLS {
			return smtp.DialTLS(ctx, g.addr, &opt)
		}
		return smtp.Dial(ctx, g.addr, &opt)
	}
	c, err := start()
	t.noteTLS(g, c, observed, err)
	var broken *smtp.ConnError
	if errors.As(err, &broken) && broken.Phase == smtp.PhaseTLS && g.security.Level == Opportunistic && ctx.Err() == nil {
		opt.TLSPolicy = smtp.TLSNever // RFC 7435: some protection, when available
		c, err = start()
	}
	if err != nil {
		return nil, err
	}
	return &session{c: c, key: t.key(g, src)}, nil
}
