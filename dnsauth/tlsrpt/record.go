package tlsrpt

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Record is the content of a TXT record at _smtp._tls (RFC 8460, 3).
type Record struct {
	URIs []string // rua=: mailto and https, of which one must get the report
}

// Errors about records.
var (
	ErrRecord   = errors.New("tlsrpt: malformed record")
	ErrNoRecord = errors.New("tlsrpt: domain asks for no reports")
)

// IsRecord reports whether a TXT record's text begins with the version field.
func IsRecord(text string) bool {
	rest, ok := strings.CutPrefix(text, "v=TLSRPTv1")
	return ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";")
}

// ParseRecord parses the text of a record. Fields and schemes that are not known
// are passed over; the error is ErrRecord.
func ParseRecord(text string) (*Record, error) {
	if !IsRecord(text) {
		return nil, ErrRecord
	}
	_, text, _ = strings.Cut(text, ";")
	r := &Record{}
	found := false
	for f := range strings.SplitSeq(text, ";") {
		f = strings.Trim(f, " \t")
		if f == "" {
			continue
		}
		name, value, ok := strings.Cut(f, "=")
		if !ok || name == "" {
			return nil, ErrRecord
		}
		if name != "rua" || found {
			continue
		}
		found = true
		for uri := range strings.SplitSeq(value, ",") {
			if uri = strings.Trim(uri, " \t"); usable(uri) {
				r.URIs = append(r.URIs, uri)
			}
		}
	}
	if len(r.URIs) == 0 {
		return nil, ErrRecord
	}
	return r, nil
}

func usable(uri string) bool {
	for i := range len(uri) {
		if uri[i] <= ' ' || uri[i] > '~' || uri[i] == '!' {
			return false
		}
	}
	u, err := url.Parse(uri)
	if err != nil {
		return false
	}
	return u.Scheme == "mailto" && strings.Contains(u.Opaque, "@") || u.Scheme == "https" && u.Host != ""
}

// String returns the record's text.
func (r *Record) String() string { return "v=TLSRPTv1; rua=" + strings.Join(r.URIs, ",") }

// Lookup finds the record of a domain. The error is ErrNoRecord if there is not
// exactly one, ErrRecord, or the resolver's.
func Lookup(ctx context.Context, r resolver.Resolver, domain string) (*Record, error) {
	domain, err := resolver.ToASCII(domain)
	if err != nil {
		return nil, err
	}
	texts, err := resolver.LookupTXT(ctx, r, resolver.EscapeName("_smtp._tls."+domain))
	if errors.Is(err, resolver.ErrNXDomain) || errors.Is(err, resolver.ErrNoData) {
		return nil, ErrNoRecord
	}
	if err != nil {
		return nil, err
	}
	record := ""
	for _, t := range texts {
		if IsRecord(t) {
			if record != "" {
				return nil, ErrNoRecord
			}
			record = t
		}
	}
	if record == "" {
		return nil, ErrNoRecord
	}
	return ParseRecord(record)
}
