package dnsauth

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/arc"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/dnsbl"
	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
	"github.com/mailblocks/mailblocks/dnsauth/iprev"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

// Config says what to check and within which bounds. It is copied by Start and
// may serve many checks at once. The zero value needs a Resolver and a ServID.
type Config struct {
	// Resolver answers all questions: usually one resolver.Cache over a
	// resolver.Client for the whole process.
	Resolver resolver.Resolver

	// ServID is our name in Authentication-Results and Received-SPF, usually
	// the host name (RFC 8601, 2.5).
	ServID string

	// Timeout bounds Finish, counted from its call: answers that are not there
	// then count as temporary errors. Zero means 10 s.
	Timeout time.Duration

	// MaxQueries bounds the questions asked about one message, cached ones
	// included, for SPF, reverse names and lists. Zero means 150, which no
	// honest message comes near. ARC has 20 of its own. DKIM and DMARC have
	// limits of their own too (10 keys, 8 names for each domain): were there
	// but one budget, a sender could use it up, and make us miss the policy
	// of the domain it forges.
	MaxQueries int

	// CheckHelo checks SPF for the HELO name too, when MAIL FROM is not empty.
	CheckHelo bool

	// NoIPRev leaves the reverse name out.
	NoIPRev bool

	// NoARC leaves the ARC chain out.
	NoARC bool

	// DNSBLs are asked about the client's address.
	DNSBLs []dnsbl.List

	SPF   spf.Checker        // limits; its Resolver and Receiver are set by Start
	DKIM  dkim.VerifyOptions // limits and policy
	DMARC dmarc.Options      // how organizational domains are found
}

// Session is what is known at MAIL FROM.
type Session struct {
	IP       netip.Addr // of the client
	Helo     string     // as given with HELO or EHLO
	MailFrom string     // as given, with or without angle brackets; empty for <>
}

// Check is the check of one message. It is used by one goroutine: Write the
// message with its CRLF line ends, then Finish. A Check that is given up needs
// no call; its look-ups end with the context given to Start.
type Check struct {
	cfg    Config
	ctx    context.Context // of the message: later calls begin look-ups
	cancel context.CancelFunc
	budget *resolver.Budget // of MaxQueries
	policy *resolver.Budget // of DKIM and DMARC
	chain  *resolver.Budget // of ARC
	sess   Session

	spf      chan *spf.Result
	heloSPF  chan *spf.Result // nil when not asked for
	iprev    chan *iprev.Result
	dnsbl    chan []dnsbl.Result
	verifier *dkim.Verifier
	arc      *arc.Verifier     // nil when left out
	dmarc    *dmarc.Evaluation // nil until the header is complete
	finished bool
}

// Start begins the check of a message at MAIL FROM. When ctx ends, so do all
// look-ups of the check.
func Start(ctx context.Context, cfg Config, sess Session) *Check {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.MaxQueries <= 0 {
		cfg.MaxQueries = 150
	}
	if cfg.Resolver == nil { // Finish says so
		cfg.MaxQueries = 0
	}
	c := &Check{cfg: cfg, sess: sess}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.budget = &resolver.Budget{Next: cfg.Resolver, Max: cfg.MaxQueries}
	signatures := cfg.DKIM.MaxSignatures
	if signatures <= 0 {
		signatures = 10
	}
	authors := cfg.DMARC.MaxAuthors
	if authors <= 0 {
		authors = 4
	}
	c.policy = &resolver.Budget{Next: cfg.Resolver, Max: signatures + 8*(signatures+1) + 9*authors}
	c.chain = &resolver.Budget{Next: cfg.Resolver, Max: 20}
	if cfg.Resolver == nil {
		c.policy.Max, c.chain.Max = 0, 0
	}
	c.cfg.SPF.Resolver, c.cfg.SPF.Receiver = c.budget, cfg.ServID

	// Each goroutine ends with its look-ups, at the latest with c.ctx; the
	// channels have room for their results.
	c.spf = begin(func() *spf.Result { return c.cfg.SPF.MailFrom(c.ctx, sess.IP, sess.Helo, sess.MailFrom) })
	if cfg.CheckHelo && strings.Trim(sess.MailFrom, "<> ") != "" {
		c.heloSPF = begin(func() *spf.Result { return c.cfg.SPF.Helo(c.ctx, sess.IP, sess.Helo) })
	}
	if !cfg.NoIPRev {
		c.iprev = begin(func() *iprev.Result { return iprev.Check(c.ctx, c.budget, sess.IP) })
	}
	if len(cfg.DNSBLs) > 0 {
		c.dnsbl = begin(func() []dnsbl.Result { return dnsbl.CheckAddr(c.ctx, c.budget, sess.IP, cfg.DNSBLs...) })
	}
	c.verifier = dkim.NewVerifier(c.ctx, c.policy, &cfg.DKIM)
	if !cfg.NoARC {
		c.arc = arc.NewVerifier(c.ctx, c.chain)
	}
	return c
}

func begin[T any](f func() T) chan T {
	ch := make(chan T, 1)
	go func() { ch <- f() }()
	return ch
}

// SPF waits for the result of SPF, which does not need the message: a server
// that wants to refuse at RCPT can ask for it early. It waits at most until the
// checker's own time limit.
func (c *Check) SPF() *spf.Result {
	res := <-c.spf
	c.spf <- res
	return res
}

// Write takes the next part of the message. It never fails.
func (c *Check) Write(p []byte) (int, error) {
	c.verifier.Write(p)
	if c.arc != nil {
		c.arc.Write(p)
	}
	if c.dmarc == nil && c.verifier.Header() != nil {
		c.startDMARC()
	}
	return len(p), nil
}

var fromField = []byte("from")

// startDMARC begins the look-ups for the author's domain and for all that may
// be aligned with it.
func (c *Check) startDMARC() {
	c.dmarc = dmarc.Start(c.ctx, c.policy, authors(c.verifier.Header()), &c.cfg.DMARC)
	for _, sig := range c.verifier.Signatures() {
		c.dmarc.Prefetch(sig.Domain)
	}
	if i := strings.LastIndexByte(c.sess.MailFrom, '@'); i >= 0 {
		c.dmarc.Prefetch(strings.TrimSuffix(c.sess.MailFrom[i+1:], ">"))
	}
}

// authors returns the values of the From fields, of which there should be one.
func authors(header []byte) string {
	h := msgheader.Parse(header)
	var values []string
	for i := range h.Fields {
		if name := h.Name(i); len(name) == len(fromField) && strings.EqualFold(string(name), "from") {
			values = append(values, string(h.Value(i)))
		}
	}
	return strings.Join(values, ",")
}

// ErrFinished is returned by a second call of Finish.
var ErrFinished = errors.New("dnsauth: check is finished already")

// Finish ends the message and returns the report, after at most Config.Timeout.
// The error is for trouble of ours; what others did wrong is in the report.
func (c *Check) Finish() (*Report, error) {
	if c.finished {
		return nil, ErrFinished
	}
	c.finished = true
	defer c.cancel()
	if c.cfg.Resolver == nil || c.cfg.ServID == "" {
		return nil, errors.New("dnsauth: Config needs a Resolver and a ServID")
	}
	timer := time.AfterFunc(c.cfg.Timeout, c.cancel)
	defer timer.Stop()

	r := &Report{ServID: c.cfg.ServID, discovery: "treewalk"}
	if c.cfg.DMARC.OrganizationalDomain != nil {
		r.discovery = "psl"
	}
	r.DKIM = c.verifier.Finish()
	r.DKIMSkipped = c.verifier.Skipped()
	if c.dmarc == nil {
		c.startDMARC()
	}
	r.SPF = <-c.spf
	if c.heloSPF != nil {
		r.HeloSPF = <-c.heloSPF
	}
	r.DMARC = c.dmarc.Finish(r.SPF, r.DKIM)
	if c.arc != nil {
		r.ARC = c.arc.Finish()
	}
	if c.iprev != nil {
		r.IPRev = <-c.iprev
	}
	if c.dnsbl != nil {
		r.DNSBL = <-c.dnsbl
	}
	r.FromDomain = c.dmarc.AuthorDomain()
	r.Queries = c.budget.Used() + c.policy.Used() + c.chain.Used()
	r.decide()
	r.AuthenticationResults = r.header().Field()
	return r, nil
}
