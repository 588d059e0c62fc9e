package resolver

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// The Lookup functions return at least one record, or an error: one that wraps
// ErrNXDomain or ErrNoData when the DNS says that there is none, any other when
// it said nothing. Names in results are lower-case and without the final dot.

// LookupTXT returns the text of each TXT record at name; the strings of one
// record are joined without a space (RFC 7208, 3.3).
func LookupTXT(ctx context.Context, r Resolver, name string) ([]string, error) {
	a, err := lookup(ctx, r, name, dns.TypeTXT)
	if err != nil {
		return nil, err
	}
	return Texts(a), nil
}

// Texts returns the text of each TXT record in a, its strings joined.
func Texts(a Answer) []string {
	var out []string
	for _, rr := range a.RRs {
		t, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		if len(t.Txt) == 1 {
			out = append(out, unescape(t.Txt[0]))
		} else {
			out = append(out, unescape(strings.Join(t.Txt, "")))
		}
	}
	return out
}

// unescape undoes the presentation format that miekg/dns keeps text in:
// \DDD for octets outside printable ASCII, and a backslash before " and \.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			b.WriteByte((s[i+1]-'0')*100 + (s[i+2]-'0')*10 + (s[i+3] - '0'))
			i += 3
			continue
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// MX is one mail exchanger.
type MX struct {
	Host       string // empty for a null MX (RFC 7505)
	Preference uint16 // lower is tried first
}

// LookupMX returns the MX records of a mail domain by ascending preference;
// equal preferences stay in the server's order. An error that wraps ErrNoData
// asks the caller for the implicit MX (RFC 5321, 5.1), ErrNXDomain means that
// the domain does not exist. secure is [Answer.Secure], also with an error.
func LookupMX(ctx context.Context, r Resolver, domain string) (mxs []MX, secure bool, err error) {
	a, err := r.Resolve(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, false, err
	}
	for _, mx := range Records[*dns.MX](a) {
		host := dns.CanonicalName(mx.Mx)
		mxs = append(mxs, MX{Host: strings.TrimSuffix(host, "."), Preference: mx.Preference})
	}
	if len(mxs) == 0 {
		return nil, a.Secure, absence(a, domain, dns.TypeMX)
	}
	slices.SortStableFunc(mxs, func(x, y MX) int { return cmp.Compare(x.Preference, y.Preference) })
	return mxs, a.Secure, nil
}

// Addrs are the addresses of a host.
type Addrs struct {
	Addrs  []netip.Addr // AAAA first, then A, each in the server's order
	Name   string       // the name at the end of the CNAME chain; the host asked for without one
	Secure bool         // both answers were secure, over the whole chain
}

// LookupAddrs asks for a host's AAAA and A records, both at once. One of the
// two questions may fail when the other has an answer.
func LookupAddrs(ctx context.Context, r Resolver, host string) (Addrs, error) {
	type result struct {
		a   Answer
		err error
	}
	six := make(chan result, 1)
	go func() {
		a, err := r.Resolve(ctx, host, dns.TypeAAAA)
		six <- result{a, err}
	}()
	a4, err4 := r.Resolve(ctx, host, dns.TypeA)
	r6 := <-six

	var out Addrs
	out.Addrs = append(AddrsOf(r6.a), AddrsOf(a4)...)
	if len(out.Addrs) > 0 {
		out.Secure = err4 == nil && r6.err == nil && a4.Secure && r6.a.Secure
		out.Name = a4.FinalName(host)
		if len(a4.RRs) == 0 {
			out.Name = r6.a.FinalName(host)
		}
		return out, nil
	}
	switch {
	case err4 != nil:
		return out, err4
	case r6.err != nil:
		return out, r6.err
	}
	return out, absence(a4, host, dns.TypeA)
}

// AddrsOf returns the addresses in an answer's A and AAAA records.
func AddrsOf(a Answer) []netip.Addr {
	var out []netip.Addr
	for _, rr := range a.RRs {
		switch rr := rr.(type) {
		case *dns.A:
			if ip, ok := netip.AddrFromSlice(rr.A); ok {
				out = append(out, ip.Unmap())
			}
		case *dns.AAAA:
			if ip, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
				out = append(out, ip)
			}
		}
	}
	return out
}

// LookupPTR returns the names that the reverse zone has for addr. They prove
// nothing until their addresses are looked up in turn.
func LookupPTR(ctx context.Context, r Resolver, addr netip.Addr) ([]string, error) {
	a, err := lookup(ctx, r, ReverseName(addr), dns.TypePTR)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range Records[*dns.PTR](a) {
		out = append(out, trimDot(dns.CanonicalName(p.Ptr)))
	}
	return out, nil
}

// lookup resolves and turns "none" into an error.
func lookup(ctx context.Context, r Resolver, name string, qtype uint16) (Answer, error) {
	a, err := r.Resolve(ctx, name, qtype)
	if err == nil && !a.Has(qtype) {
		err = absence(a, name, qtype)
	}
	return a, err
}

func absence(a Answer, name string, qtype uint16) error {
	if a.NXDomain {
		return &Error{Name: name, Type: qtype, RCode: dns.RcodeNameError, Err: ErrNXDomain}
	}
	return &Error{Name: name, Type: qtype, Err: ErrNoData}
}
