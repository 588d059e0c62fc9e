package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/queue"
)

// A target is an address to try.
type target struct {
	host     string // its name, for TLS and reports
	addr     string // to dial
	domain   string // of the recipients, for a mail exchanger
	security Security
	smart    *Smarthost // nil for a mail exchanger
}

// targets finds where a domain's mail goes, best first. The outcome, when not nil, says
// why there is nowhere.
func (t *Transport) targets(ctx context.Context, domain string, requireTLS, lax bool) ([]target, *queue.Outcome) {
	if domain == "" {
		return nil, failed(queue.Permanent, "5.1.3", "address has no domain")
	}
	if strings.HasPrefix(domain, "[") {
		return t.literal(domain)
	}
	name, err := resolver.ToASCII(domain)
	if err != nil {
		return nil, failed(queue.Permanent, "5.1.2", "%s is not a domain name", domain)
	}
	mxs, secure, err := resolver.LookupMX(ctx, t.Resolver, name)
	switch {
	case errors.Is(err, resolver.ErrNXDomain):
		return nil, failed(queue.Permanent, "5.1.2", "domain %s does not exist", domain)
	case errors.Is(err, resolver.ErrNoData):
		mxs = []resolver.MX{{Host: name}} // RFC 5321, 5.1: the implicit MX
	case err != nil:
		return nil, failed(queue.RouteDown, "4.4.3", "mail exchangers of %s can not be looked up: %v", domain, err)
	}
	mxs = slices.DeleteFunc(mxs, func(mx resolver.MX) bool { return mx.Host == "" })
	if len(mxs) == 0 {
		return nil, failed(queue.Permanent, "5.1.10", "domain %s does not accept mail (null MX)", domain)
	}
	shuffle(mxs)
	return t.exchangers(ctx, domain, mxs, secure, requireTLS, lax)
}

// shuffle puts hosts of equal preference into random order.
func shuffle(mxs []resolver.MX) {
	slices.SortStableFunc(mxs, func(a, b resolver.MX) int { return int(a.Preference) - int(b.Preference) })
	for from := 0; from < len(mxs); {
		to := from + 1
		for to < len(mxs) && mxs[to].Preference == mxs[from].Preference {
			to++
		}
		rand.Shuffle(to-from, func(i, j int) { mxs[from+i], mxs[from+j] = mxs[from+j], mxs[from+i] })
		from = to
	}
}

// exchangers looks up the hosts' addresses. When one of the hosts is ourselves, it and all that are not
// preferred to it are left out (RFC 5321, 5.1).
func (t *Transport) exchangers(ctx context.Context, domain string, mxs []resolver.MX, secure, requireTLS, lax bool) ([]target, *queue.Outcome) {
	var found []target
	var trouble *queue.Outcome // the latest reason why a host is not usable
	cut := -1                  // preference from which on hosts don't count
	refused := false
	preference := make(map[string]uint16)
	for _, mx := range mxs {
		if cut >= 0 && int(mx.Preference) >= cut {
			break
		}
		addrs, err := resolver.LookupAddrs(ctx, t.Resolver, mx.Host)
		if t.isName(mx.Host) || slices.ContainsFunc(addrs.Addrs, t.isAddress) {
			cut = int(mx.Preference)
			continue
		}
		if err != nil && resolver.Temporary(err) {
			trouble = failed(queue.RouteDown, "4.4.3", "address of %s can not be looked up: %v", mx.Host, err)
			continue
		}
		if len(addrs.Addrs) == 0 {
			if trouble == nil {
				trouble = failed(queue.Permanent, "5.4.4", "mail exchanger %s of %s has no address", mx.Host, domain)
			}
			continue
		}
		sec, out := t.security(ctx, domain, mx, secure, requireTLS, lax)
		if out != nil {
			trouble = out
			continue
		}
		if sec.Level == Refused {
			refused = true
			continue
		}
		for _, a := range alternate(addrs.Addrs) {
			found = append(found, target{host: mx.Host, domain: domain, addr: net.JoinHostPort(a.String(), strconv.Itoa(t.port())), security: sec})
			preference[mx.Host] = mx.Preference
		}
	}
	if cut >= 0 { // some of equal preference may have come before ourselves
		found = slices.DeleteFunc(found, func(g target) bool { return int(preference[g.host]) >= cut })
	}
	switch {
	case len(found) > 0:
		return found, nil
	case trouble != nil && trouble.Result == queue.RouteDown:
		return nil, trouble
	case cut >= 0:
		return nil, failed(queue.Permanent, "5.4.6", "mail for %s loops back to this host", domain)
	case refused:
		return nil, failed(queue.RouteDown, "4.7.5", "no mail exchanger of %s fits the domain's security policy", domain)
	}
	return nil, trouble
}

// security asks the policy, and makes it stricter where the sender asked for REQUIRETLS.
func (t *Transport) security(ctx context.Context, domain string, mx resolver.MX, secure, requireTLS, lax bool) (Security, *queue.Outcome) {
	var sec Security
	if t.Security != nil && !lax {
		var err error
		if sec, err = t.Security(ctx, domain, mx, secure); err != nil {
			return sec, failed(queue.RouteDown, "4.7.5", "security policy of %s is not known: %v", domain, err)
		}
	}
	if requireTLS && (sec.Level == Opportunistic || sec.Level == Plain) { // RFC 8689, 4.2.1: authenticated
		sec.Level = Verified
	}
	return sec, nil
}

// alternate takes addresses of either family in turn, so that a broken family costs little.
func alternate(addrs []netip.Addr) []netip.Addr {
	var six, four, mixed []netip.Addr
	for _, a := range addrs {
		if a.Unmap().Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	for len(six)+len(four) > 0 {
		if len(six) > 0 {
			mixed, six = append(mixed, six[0]), six[1:]
		}
		if len(four) > 0 {
			mixed, four = append(mixed, four[0]), four[1:]
		}
	}
	return mixed
}

// literal is the target of an address literal (RFC 5321, 4.1.3).
func (t *Transport) literal(domain string) ([]target, *queue.Outcome) {
	text := strings.TrimSuffix(strings.TrimPrefix(domain, "["), "]")
	if len(text) > 5 && strings.EqualFold(text[:5], "IPv6:") {
		text = text[5:]
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || !strings.HasSuffix(domain, "]") {
		return nil, failed(queue.Permanent, "5.1.2", "%s is not an address literal", domain)
	}
	if t.isAddress(addr) {
		return nil, failed(queue.Permanent, "5.4.6", "mail for %s loops back to this host", domain)
	}
	return []target{{host: addr.String(), addr: net.JoinHostPort(addr.String(), strconv.Itoa(t.port()))}}, nil
}

// isName reports whether a host's name is ours.
func (t *Transport) isName(host string) bool {
	return strings.EqualFold(host, strings.TrimSuffix(t.hostname(), ".")) ||
		slices.ContainsFunc(t.Names, func(n string) bool { return strings.EqualFold(host, strings.TrimSuffix(n, ".")) })
}

// isAddress reports whether an address is ours.
func (t *Transport) isAddress(a netip.Addr) bool {
	a = a.Unmap()
	t.names.Do(t.findAddresses)
	return t.ours[a] || !t.AllowLoopback && (a.IsLoopback() || a.IsUnspecified())
}

func (t *Transport) findAddresses() {
	t.ours = make(map[netip.Addr]bool)
	for _, a := range t.Addresses {
		t.ours[a.Unmap()] = true
	}
	if t.Addresses != nil {
		return
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return // then we know ourselves by name alone
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			t.ours[p.Addr().Unmap()] = true
		}
	}
}

// smarthost gives the addresses of one.
func (t *Transport) smarthost(ctx context.Context, s *Smarthost) ([]target, *queue.Outcome) {
	sec := Security{Level: s.Level, Config: s.TLS}
	if s.Auth != nil && s.Level == Opportunistic && !s.InsecureAuth {
		sec.Level = Verified
	}
	one := target{host: s.Addr, addr: s.Addr, security: sec, smart: s}
	host, port, err := net.SplitHostPort(s.Addr)
	if strings.HasPrefix(s.Addr, "unix:") || err != nil {
		return []target{one}, nil
	}
	one.host = host
	if _, err := netip.ParseAddr(host); err == nil || t.Resolver == nil {
		return []target{one}, nil
	}
	name, err := resolver.ToASCII(host)
	if err != nil {
		return nil, failed(queue.RouteDown, "4.4.4", "%s is not a host name", host)
	}
	addrs, err := resolver.LookupAddrs(ctx, t.Resolver, name)
	if err != nil || len(addrs.Addrs) == 0 {
		return nil, failed(queue.RouteDown, "4.4.3", "host %s has no address: %v", host, err)
	}
	var found []target
	for _, a := range alternate(addrs.Addrs) {
		g := one
		g.addr = net.JoinHostPort(a.String(), port)
		found = append(found, g)
	}
	return found, nil
}
