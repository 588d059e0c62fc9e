package bimi

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/internal/taglist"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Record is the content of a TXT record at selector._bimi.domain.
type Record struct {
	Location string // l=: the indicator, an https URI; empty when the domain declines
	Evidence string // a=: the evidence document, an https URI; may be empty
}

// Errors about records, to test for with errors.Is.
var (
	ErrNoRecord = errors.New("bimi: no record")
	ErrRecord   = errors.New("bimi: malformed record")
)

// IsRecord reports whether a TXT record's text begins with the version tag.
func IsRecord(text string) bool {
	first, _, _ := strings.Cut(text, ";")
	name, value, ok := strings.Cut(first, "=")
	return ok && strings.TrimSpace(name) == "v" && strings.TrimSpace(value) == "BIMI1"
}

// ParseRecord parses the text of a record.
func ParseRecord(text string) (*Record, error) {
	if !IsRecord(text) {
		return nil, ErrRecord
	}
	tags, err := taglist.Parse(text, true)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r := &Record{}
	var has bool
	r.Location, has = tags.Get("l")
	r.Evidence, _ = tags.Get("a")
	if !has {
		return nil, fmt.Errorf("%w: no l=", ErrRecord)
	}
	for _, uri := range []string{r.Location, r.Evidence} {
		if uri != "" && !isHTTPS(uri) {
			return nil, fmt.Errorf("%w: not an https URI", ErrRecord)
		}
	}
	return r, nil
}

func isHTTPS(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && !strings.ContainsAny(uri, " \t\r\n;,")
}

// Declines reports whether the domain says that it has no indicator.
func (r *Record) Declines() bool { return r.Location == "" }

// String returns the record's text.
func (r *Record) String() string {
	return "v=BIMI1; l=" + r.Location + "; a=" + r.Evidence
}

// Found is a record and where it stands.
type Found struct {
	Record *Record
	Domain string // the author's, or the organizational domain
}

// Lookup finds the record for a selector, "default" if that is empty: that of the
// author's domain, or else that of the organizational domain. Both are asked for
// at once. The error wraps ErrNoRecord or ErrRecord, or is the resolver's.
func Lookup(ctx context.Context, r resolver.Resolver, domain, orgDomain, selector string) (*Found, error) {
	if selector == "" {
		selector = "default"
	}
	type result struct {
		found *Found
		err   error
	}
	org := make(chan result, 1)
	if orgDomain != "" && orgDomain != domain {
		go func() { // ends with the resolver's answer, at the latest with ctx
			f, err := lookup(ctx, r, orgDomain, selector)
			org <- result{f, err}
		}()
	} else {
		org <- result{nil, ErrNoRecord}
	}
	f, err := lookup(ctx, r, domain, selector)
	if !errors.Is(err, ErrNoRecord) {
		return f, err
	}
	second := <-org
	return second.found, second.err
}

func lookup(ctx context.Context, r resolver.Resolver, domain, selector string) (*Found, error) {
	name, err := resolver.ToASCII(selector + "._bimi." + domain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	texts, err := resolver.LookupTXT(ctx, r, resolver.EscapeName(name))
	if errors.Is(err, resolver.ErrNXDomain) || errors.Is(err, resolver.ErrNoData) {
		return nil, ErrNoRecord
	}
	if err != nil {
		return nil, err
	}
	text, n := "", 0
	for _, t := range texts {
		if IsRecord(t) {
			text = t
			n++
		}
	}
	if n != 1 {
		return nil, ErrNoRecord
	}
	record, err := ParseRecord(text)
	if err != nil {
		return nil, err
	}
	return &Found{Record: record, Domain: domain}, nil
}

// Eligible reports whether a message may have an indicator: it passed DMARC, and
// the policies of its domain and of subdomains are quarantine or reject, for all
// messages. sp is the policy in effect for subdomains; percent is pct=.
func Eligible(dmarcPass bool, p, sp string, percent int) bool {
	strict := func(policy string) bool { return policy == "quarantine" || policy == "reject" }
	return dmarcPass && strict(p) && (sp == "" || strict(sp)) && (percent == 100 || p == "reject")
}

// ErrIndicator is wrapped by what Fetch and CheckSVG return about an image.
var ErrIndicator = errors.New("bimi: indicator can not be used")

// maxSVG bounds an image, in octets.
const maxSVG = 1 << 20

// Fetch gets the indicator over HTTPS with client, whose Timeout and transport
// are the caller's choice; nil means a client with 15 s. Redirects are not
// followed away from HTTPS, and at most three times. What it returns is an SVG
// without scripts, external parts or event handlers.
func Fetch(ctx context.Context, client *http.Client, location string) ([]byte, error) {
	if !isHTTPS(location) {
		return nil, fmt.Errorf("%w: not an https URI", ErrIndicator)
	}
	c := http.Client{Timeout: 15 * time.Second}
	if client != nil {
		c = *client
	}
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != "https" || len(via) > 3 {
			return http.ErrUseLastResponse
		}
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndicator, err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndicator, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: HTTP status %d", ErrIndicator, resp.StatusCode)
	}
	data, err := limited(resp.Body)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) { // .svgz
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrIndicator, err)
		}
		if data, err = limited(z); err != nil {
			return nil, err
		}
	}
	return data, CheckSVG(data)
}

func limited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSVG+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndicator, err)
	}
	if len(data) > maxSVG {
		return nil, fmt.Errorf("%w: larger than %d octets", ErrIndicator, maxSVG)
	}
	return data, nil
}

// CheckSVG reports whether data is an SVG that nothing can be smuggled in with: no
// document type, scripts, event handlers, foreign content or outside references.
func CheckSVG(data []byte) error {
	d := xml.NewDecoder(bytes.NewReader(data))
	depth, root := 0, false
	for {
		token, err := d.Token()
		if err == io.EOF && root {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrIndicator, err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return fmt.Errorf("%w: document type", ErrIndicator)
		case xml.StartElement:
			if depth == 0 && t.Name.Local != "svg" {
				return fmt.Errorf("%w: not an SVG", ErrIndicator)
			}
			root = true
			if depth++; depth > 256 {
				return fmt.Errorf("%w: nested too deep", ErrIndicator)
			}
			if err := checkElement(t); err != nil {
				return err
			}
		case xml.EndElement:
			depth--
		}
	}
}

func checkElement(t xml.StartElement) error {
	switch strings.ToLower(t.Name.Local) {
	case "script", "foreignobject", "image", "animate", "animatemotion", "animatetransform", "set", "iframe", "a":
		return fmt.Errorf("%w: element %s", ErrIndicator, t.Name.Local)
	}
	for _, a := range t.Attr {
		name := strings.ToLower(a.Name.Local)
		if strings.HasPrefix(name, "on") || name == "href" && !strings.HasPrefix(a.Value, "#") {
			return fmt.Errorf("%w: attribute %s", ErrIndicator, a.Name.Local)
		}
	}
	return nil
}
