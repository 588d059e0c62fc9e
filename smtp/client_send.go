package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Envelope is what Send sends a message with.
type Envelope struct {
	// From is the sender, without angle brackets; "" is the null sender.
	From string

	// Params go with MAIL. A message with UTF8, Body8Bit, BodyBinary, RequireTLS, HoldFor, HoldUntil
	// or DeliverBy needs the extension (ExtensionError); what only reports
	// or hints (DSN parameters, SIZE, AUTH, MT-PRIORITY, RRVS, SOLICIT) is left out for a server without.
	Params MailParams

	// To are the recipients. Their Verdict is not used.
	To []Recipient
}

// Result is what became of a message.
type Result struct {
	// Recipients holds the final reply for each of Envelope.To: a failure of MAIL, of its RCPT, of
	// DATA or of the message, or the success that says that the server is
	// responsible for it. It is nil where the session broke before that.
	Recipients []*Reply

	// Mail and Data are the replies to MAIL and, with SMTP, to the end of the message; nil
	// where it did not come to that. Queue ids are found in the latter's Text.
	Mail, Data *Reply
}

// All reports whether the server took the message for every recipient.
func (r *Result) All() bool {
	for _, reply := range r.Recipients {
		if reply == nil || !reply.OK() {
			return false
		}
	}
	return true
}

// rcptBatch bounds RCPTs in flight, so that neither side waits for the other to read (RFC 2920, 3.1).
const rcptBatch = 100

// Send sends one message to many recipients. Bare CR and LF in the body are made CRLF, unless it
// is BodyBinary, and dots are stuffed.
//
// The error is nil whenever the server answered, be it with refusals: look at the
// Result. Otherwise it is a *ConnError (the Result still tells what was known by then), an
// *ExtensionError, or the body's own read error, after which the connection is
// closed since the message can not be taken back.
func (c *Client) Send(ctx context.Context, env *Envelope, body io.Reader) (*Result, error) {
	res := &Result{Recipients: make([]*Reply, len(env.To))}
	err := c.run(ctx, func() error { return c.send(env, body, res) })
	return res, err
}

func (c *Client) send(env *Envelope, body io.Reader, res *Result) error {
	s, err := c.prepare(env, body, res)
	if err != nil || s == nil {
		return err
	}
	return s.run()
}

// prepare checks a message and makes its commands. It returns nil when there is nothing to send: res says why.
func (c *Client) prepare(env *Envelope, body io.Reader, res *Result) (*sending, error) {
	mail, err := c.mailLine(env.From, &env.Params, c.needsUTF8(env))
	if err != nil {
		return nil, err
	}
	if limit := c.sizeLimit(); limit > 0 && env.Params.Size > limit {
		fillReplies(res.Recipients, &Reply{Code: 552, Enhanced: EnhancedCode{5, 3, 4},
			Text: "message is over the size limit that the server announces, " + strconv.FormatInt(limit, 10)})
		return nil, nil
	}
	lines := make([]string, len(env.To))
	for i := range env.To {
		if lines[i], err = c.rcptLine(env.To[i].Address, &env.To[i].Params); err != nil {
			return nil, err
		}
	}
	s := &sending{c: c, env: env, res: res, mail: mail, body: body}
	if max := c.limit("RCPTMAX="); len(lines) > max {
		fillReplies(res.Recipients[max:], &Reply{Code: 452, Enhanced: EnhancedCode{4, 5, 3},
			Text: "more recipients than the server announces to take, " + strconv.Itoa(max)})
		lines = lines[:max]
	}
	if n := domainsUpTo(env.To[:len(lines)], c.limit("RCPTDOMAINMAX=")); n < len(lines) {
		fillReplies(res.Recipients[n:], &Reply{Code: 452, Enhanced: EnhancedCode{4, 5, 3},
			Text: "recipients in more domains than the server announces to take"})
		lines = lines[:n]
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%w: no recipients", errArgument)
	}
	s.lines = lines
	s.chunked = env.Params.Body == BodyBinary || c.opt.Chunking && c.has("CHUNKING")
	s.pipelined = c.has("PIPELINING") && !c.opt.NoPipelining
	return s, nil
}

func fillReplies(to []*Reply, r *Reply) {
	for i := range to {
		if to[i] == nil {
			to[i] = r
		}
	}
}

func (c *Client) has(keyword string) bool { _, ok := c.ext[keyword]; return ok }

// sizeLimit is SIZE's parameter, or 0.
func (c *Client) sizeLimit() int64 {
	n, _ := strconv.ParseInt(c.ext["SIZE"], 10, 64)
	return n
}

// limit is a parameter of LIMITS (RFC 9422), such as "RCPTMAX=".
func (c *Client) limit(name string) int {
	for p := range strings.FieldsSeq(c.ext["LIMITS"]) {
		if v, ok := strings.CutPrefix(strings.ToUpper(p), name); ok {
			if n, err := strconv.Atoi(v); err == nil && n > 0 {
				return n
			}
		}
	}
	return maxInt
}

// domainsUpTo returns how many of the first recipients are in no more than max domains.
func domainsUpTo(to []Recipient, max int) int {
	if max >= len(to) {
		return len(to)
	}
	var seen []string
	for i := range to {
		_, domain := SplitAddress(to[i].Address)
		if slices.ContainsFunc(seen, func(d string) bool { return SameDomain(d, domain) }) {
			continue
		}
		if len(seen) == max {
			return i
		}
		seen = append(seen, domain)
	}
	return len(to)
}

// begin counts a MAIL.
func (c *Client) begin() error {
	if c.MessagesLeft() == 0 {
		return &ConnError{Phase: c.phase, Host: c.host, Err: ErrMailMax}
	}
	c.mails++
	c.inTx = true
	return nil
}

// needsUTF8 reports whether any address goes beyond ASCII.
func (c *Client) needsUTF8(env *Envelope) bool {
	return env.Params.UTF8 || !isASCII(env.From) ||
		slices.ContainsFunc(env.To, func(r Recipient) bool { return !isASCII(r.Address) })
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// mailLine makes the MAIL command, with the parameters that the server understands.
func (c *Client) mailLine(from string, p *MailParams, utf8 bool) (string, error) {
	if err := checkMailbox(from); err != nil {
		return "", fmt.Errorf("sender %q: %w", from, err)
	}
	q := *p
	q.UTF8 = utf8
	for _, need := range [...]struct {
		keyword string
		needed  bool
	}{
		{"SMTPUTF8", q.UTF8},
		{"8BITMIME", q.Body == Body8Bit || q.UTF8}, // RFC 6531, 3.1
		{"CHUNKING", q.Body == BodyBinary},
		{"BINARYMIME", q.Body == BodyBinary},
		{"REQUIRETLS", q.RequireTLS},
		{"FUTURERELEASE", q.HoldFor > 0 || !q.HoldUntil.IsZero()},
		{"DELIVERBY", q.DeliverBy.Mode != 0},
	} {
		if need.needed && !c.has(need.keyword) {
			return "", &ExtensionError{Extension: need.keyword}
		}
	}
	if q.RequireTLS && c.tls == nil {
		return "", &ExtensionError{Extension: "REQUIRETLS"}
	}
	if !c.has("SIZE") {
		q.Size = 0
	}
	if q.Body == Body7Bit && !c.has("8BITMIME") {
		q.Body = BodyUnset
	}
	if !c.has("DSN") {
		q.Return, q.EnvelopeID = ReturnUnset, ""
	}
	if !c.has("AUTH") {
		q.Auth = ""
	}
	if !c.has("MT-PRIORITY") {
		q.Priority = 0
	}
	if q.Solicit != "" && !validSolicit([]byte(q.Solicit)) {
		return "", fmt.Errorf("%w: SOLICIT=%q", errArgument, q.Solicit)
	}
	if !c.has("NO-SOLICITING") {
		q.Solicit = ""
	}
	b := append(append(append(make([]byte, 0, 128), "MAIL FROM:<"...), from...), '>')
	return checkParams(string(q.appendTo(b)), q.Other)
}

// rcptLine makes the RCPT command.
func (c *Client) rcptLine(to string, p *RcptParams) (string, error) {
	if err := checkMailbox(to); err != nil || to == "" {
		return "", fmt.Errorf("recipient %q: %w", to, errMailbox)
	}
	q := *p
	if !c.has("DSN") {
		q.Notify, q.Original = 0, ""
	}
	if !c.has("RRVS") {
		q.ValidSince = time.Time{}
	}
	b := append(append(append(make([]byte, 0, 128), "RCPT TO:<"...), to...), '>')
	return checkParams(string(q.appendTo(b)), q.Other)
}

// checkParams makes sure that the caller's own parameters are what they seem to be.
func checkParams(line string, other []Param) (string, error) {
	for _, p := range other {
		_, _, _, rest, err := nextParam(appendParams(nil, []Param{p}))
		if err != nil || len(rest) > 0 {
			return "", fmt.Errorf("%w: parameter %q", errArgument, p.Key)
		}
	}
	return line, nil
}

// Mail begins a transaction by hand; Send is the usual way. See Envelope.Params for what
// becomes of the parameters; an address beyond ASCII needs UTF8 set here. The error is the
// reply, if that is a failure.
func (c *Client) Mail(ctx context.Context, from string, p *MailParams) (r *Reply, err error) {
	if p == nil {
		p = &MailParams{}
	}
	err = c.run(ctx, func() error {
		line, err := c.mailLine(from, p, p.UTF8 || !isASCII(from))
		if err != nil {
			return err
		}
		if err := c.begin(); err != nil {
			return err
		}
		r, err = c.cmd(c.opt.CommandTimeout, line)
		return unexpected(r, err)
	})
	return r, err
}

// Rcpt names one more recipient.
func (c *Client) Rcpt(ctx context.Context, to string, p *RcptParams) (r *Reply, err error) {
	if p == nil {
		p = &RcptParams{}
	}
	err = c.run(ctx, func() error {
		line, err := c.rcptLine(to, p)
		if err != nil {
			return err
		}
		r, err = c.cmd(c.opt.CommandTimeout, line)
		return unexpected(r, err)
	})
	return r, err
}

// Data sends the message with DATA and returns the reply: one, or with LMTP as many as accepted
// says, the number of Rcpts that succeeded. The error is the first reply if DATA itself was
// refused.
func (c *Client) Data(ctx context.Context, accepted int, body io.Reader) (replies []*Reply, err error) {
	err = c.run(ctx, func() error {
		r, err := c.cmd(c.opt.DataTimeout, "DATA")
		if err != nil {
			return err
		}
		if r.Code != 354 {
			return fmt.Errorf("%w: %w", ErrProtocol, r)
		}
		if err := c.writeDot(body); err != nil {
			return err
		}
		if !c.opt.LMTP {
			accepted = 1
		}
		for range accepted {
			r, err := c.read(c.opt.DataDoneTimeout)
			if err != nil {
				return err
			}
			replies = append(replies, r)
		}
		c.inTx = false
		return nil
	})
	return replies, err
}

// unexpected makes an error of a reply that is neither success nor failure.
func unexpected(r *Reply, err error) error {
	if err == nil && !r.OK() {
		return fmt.Errorf("%w: %w", ErrProtocol, r)
	}
	return err
}

// isReply returns the reply in err if that is all it is.
func isReply(err error) *Reply {
	var r *Reply
	if errors.As(err, &r) && harmless(err) {
		return r
	}
	return nil
}
