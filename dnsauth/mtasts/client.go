package mtasts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Client finds the policies of domains. It needs a Resolver; its fields must
// not change after the first call. It is safe for concurrent use.
type Client struct {
	// Resolver is asked for the TXT records and for the addresses of policy
	// hosts. It should cache: every call asks.
	Resolver resolver.Resolver

	// Store keeps policies. Nil means a Memory of our own.
	Store Store

	// Refresh is the age after which a policy is fetched again although its id
	// has not changed (RFC 8461, 3.3). Zero means 24 h.
	Refresh time.Duration

	// Pause is how long nothing is fetched after a failure under the same id.
	// Zero means 5 min (RFC 8461, 3.3).
	Pause time.Duration

	// Timeout bounds one fetch. Zero means 1 min.
	Timeout time.Duration

	// MaxSize bounds a policy's text, in octets. Zero means 64 KiB.
	MaxSize int64

	// TLS is the configuration towards policy hosts, such as other roots than
	// the system's. Nil means defaults. The name to verify is always theirs.
	TLS *tls.Config

	// Dial connects to an address of a policy host, port 443. Nil means a
	// net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	flight singleflight.Group
	memory Memory
	once   sync.Once
	http   *http.Client
}

// Found is what is known about a domain.
type Found struct {
	Policy *Policy // nil when the domain has none that could be had
	ID     string  // of the policy
	Text   string  // of the policy, for reports (RFC 8460, 4.2)

	// Cached says that the policy was not fetched by this call.
	Cached bool

	// Problem says what went wrong with finding a newer policy, or any. It is
	// nil when all is well, also for a domain that has none. It is reportable
	// when Policy is not nil, or Record is set (RFC 8461, 6).
	Problem error
	Record  bool // the domain has a valid TXT record
}

// Conditions of Found.Problem, to test for with errors.Is. Others are those of
// the resolver, ErrRecord and ErrPolicy.
var (
	ErrFetch       = errors.New("mtasts: policy can not be fetched")
	ErrCertificate = errors.New("mtasts: certificate of the policy host is not valid") // is an ErrFetch too
	ErrPaused      = errors.New("mtasts: fetching has failed a short time ago")
)

// Policy returns the policy to apply to mail for domain (RFC 8461, 5.1): the one
// that the domain publishes, or when that can't be found out the one it had,
// as long as it has not expired. The error is for trouble of ours: ctx has ended,
// the Store fails, domain is no domain name.
func (c *Client) Policy(ctx context.Context, domain string) (*Found, error) {
	domain, err := resolver.ToASCII(domain)
	if err != nil {
		return nil, fmt.Errorf("mtasts: %w", err)
	}
	entry, err := c.store().Load(ctx, domain)
	if err != nil {
		return nil, err
	}
	known := c.known(entry)
	record, err := c.lookup(ctx, domain)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if record == nil {
		known.Problem = err
		if known.Policy == nil && errors.Is(err, errNoRecord) || known.Policy != nil && known.Policy.Mode == None {
			known.Problem = nil
		}
		return known, nil
	}
	known.Record = true
	if known.Policy != nil && known.ID == record.ID && c.now().Sub(entry.Fetched) < orDefault(c.Refresh, 24*time.Hour) {
		return known, nil
	}
	if entry != nil && entry.FailedID == record.ID && c.now().Sub(entry.Failed) < orDefault(c.Pause, 5*time.Minute) {
		known.Problem = ErrPaused
		return known, nil
	}
	return c.refresh(ctx, domain, record.ID, entry)
}

// known is what an entry says, as far as it has not expired.
func (c *Client) known(e *Entry) *Found {
	if e == nil || e.Policy == "" {
		return &Found{}
	}
	p, err := ParsePolicy(e.Policy)
	if err != nil || c.now().After(e.Fetched.Add(p.MaxAge)) {
		return &Found{}
	}
	return &Found{Policy: p, ID: e.ID, Text: e.Policy, Cached: true}
}

// refresh fetches the policy, once for all callers who want it.
func (c *Client) refresh(ctx context.Context, domain, id string, entry *Entry) (*Found, error) {
	ch := c.flight.DoChan(domain+" "+id, func() (any, error) {
		// One caller's end must not be that of the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), orDefault(c.Timeout, time.Minute))
		defer cancel()
		next := &Entry{}
		if entry != nil {
			*next = *entry
		}
		text, p, err := c.fetch(ctx, domain)
		if err != nil {
			next.Failed, next.FailedID = c.now(), id
			found := c.known(next)
			found.Problem, found.Record = err, true
			return found, c.store().Save(ctx, domain, next)
		}
		*next = Entry{ID: id, Policy: text, Fetched: c.now()}
		return &Found{Policy: p, ID: id, Text: text, Record: true}, c.store().Save(ctx, domain, next)
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		found := *r.Val.(*Found)
		return &found, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errNoRecord = errors.New("mtasts: no record")

// lookup finds the domain's record.
func (c *Client) lookup(ctx context.Context, domain string) (*Record, error) {
	texts, err := resolver.LookupTXT(ctx, c.Resolver, resolver.EscapeName("_mta-sts."+domain))
	if errors.Is(err, resolver.ErrNXDomain) || errors.Is(err, resolver.ErrNoData) {
		return nil, errNoRecord
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, t := range texts {
		if IsRecord(t) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return nil, errNoRecord
	case 1:
		return ParseRecord(found[0])
	}
	return nil, fmt.Errorf("%w: there are several", ErrRecord)
}

// fetch gets the policy from the policy host (RFC 8461, 3.3).
func (c *Client) fetch(ctx context.Context, domain string) (string, *Policy, error) {
	c.once.Do(c.setup)
	url := "https://mta-sts." + domain + "/.well-known/mta-sts.txt"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var cert *tls.CertificateVerificationError
		if errors.As(err, &cert) {
			return "", nil, fmt.Errorf("%w: %w: %w", ErrFetch, ErrCertificate, err)
		}
		return "", nil, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("%w: HTTP status %d", ErrFetch, resp.StatusCode)
	}
	if typ, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || typ != "text/plain" {
		return "", nil, fmt.Errorf("%w: media type is not text/plain", ErrFetch)
	}
	limit := c.MaxSize
	if limit <= 0 {
		limit = 64 << 10
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	if int64(len(body)) > limit {
		return "", nil, fmt.Errorf("%w: policy is longer than %d octets", ErrFetch, limit)
	}
	p, err := ParsePolicy(string(body))
	if err != nil {
		return "", nil, err
	}
	return string(body), p, nil
}

// setup makes the HTTP client: no proxy, no redirects, no kept connections, names
// from our resolver.
func (c *Client) setup() {
	cfg := c.TLS.Clone() // Clone of nil is nil
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.ServerName = ""
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	c.http = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            c.dial,
			TLSClientConfig:        cfg,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

// dial connects to the first address of a host that answers.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addrs, err := resolver.LookupAddrs(ctx, c.Resolver, strings.TrimSuffix(host, "."))
	if err != nil {
		return nil, err
	}
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	}
	var errs []error
	for _, a := range addrs.Addrs[:min(len(addrs.Addrs), 6)] {
		conn, err := dial(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (c *Client) store() Store {
	if c.Store != nil {
		return c.Store
	}
	return &c.memory
}

func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
