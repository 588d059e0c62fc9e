package resolver

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Zones is a Resolver whose answers are written down: DNS for tests and
// examples. It follows CNAME records, knows wildcards (RFC 4592), tells names
// that don't exist from names that only have other records or children, and
// fails where it was told to. All its methods are safe for concurrent use.
type Zones struct {
	mu      sync.RWMutex
	names   map[string]map[uint16][]dns.RR // canonical name → type → records; an empty map is a name without records
	faults  map[question]fault             // qtype 0 = every type
	secure  map[string]bool                // names whose answers are Secure
	queries []Question
}

// Question is one that was asked.
type Question struct {
	Name string // lower-case, without the final dot
	Type uint16
}

type fault struct {
	err  error
	hang bool
}

// ParseZones reads records in the format of RFC 1035, 5 (a master file, with
// $ORIGIN and $TTL; $INCLUDE is refused). Names are relative to the root, and
// the TTL, where none is given, is 300 seconds. Indentation that all lines share
// is removed first, so that the text can stand indented in a Go file.
func ParseZones(text string) (*Zones, error) {
	z := new(Zones)
	if err := z.AddText(text); err != nil {
		return nil, err
	}
	return z, nil
}

// MustParseZones is ParseZones for texts that are part of a test. It panics if
// the text does not parse.
func MustParseZones(text string) *Zones {
	z, err := ParseZones(text)
	if err != nil {
		panic(err)
	}
	return z
}

// AddText adds the records of text; see [ParseZones].
func (z *Zones) AddText(text string) error {
	p := dns.NewZoneParser(strings.NewReader(dedent(text)), ".", "")
	p.SetDefaultTTL(300)
	var rrs []dns.RR
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		rrs = append(rrs, rr)
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("resolver: zone text: %w", err)
	}
	z.Add(rrs...)
	return nil
}

func dedent(text string) string {
	lines := strings.Split(text, "\n")
	common := -1
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		indent := len(l) - len(strings.TrimLeft(l, " \t"))
		if common < 0 || indent < common {
			common = indent
		}
	}
	for i, l := range lines {
		lines[i] = l[min(max(common, 0), len(l)):]
	}
	return strings.Join(lines, "\n")
}

// Add adds records.
func (z *Zones) Add(rrs ...dns.RR) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, rr := range rrs {
		types := z.node(rr.Header().Name)
		t := rr.Header().Rrtype
		types[t] = append(types[t], rr)
	}
}

// AddTXT adds one TXT record whose text is text as it stands: no quoting is
// needed, and the text is cut into strings of 255 octets.
func (z *Zones) AddTXT(name, text string) {
	rr := &dns.TXT{Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 300}}
	for len(text) > 255 {
		rr.Txt = append(rr.Txt, escape(text[:255]))
		text = text[255:]
	}
	rr.Txt = append(rr.Txt, escape(text))
	z.Add(rr)
}

// escape is the inverse of unescape.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// AddName makes name exist without any record.
func (z *Zones) AddName(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.node(name)
}

// Remove makes name have no records of type qtype, or with qtype 0 not exist.
func (z *Zones) Remove(name string, qtype uint16) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if qtype == 0 {
		delete(z.names, dns.CanonicalName(name))
	} else {
		delete(z.names[dns.CanonicalName(name)], qtype)
	}
}

// Fail makes questions about name fail with err, usually ErrServFail or
// ErrTimeout; qtype 0 means every type for which there is no other fault. A nil
// err heals the name.
func (z *Zones) Fail(name string, qtype uint16, err error) {
	z.setFault(name, qtype, fault{err: err}, err == nil)
}

// Hang makes questions about name wait until their context ends, as a server
// does that never answers.
func (z *Zones) Hang(name string, qtype uint16) {
	z.setFault(name, qtype, fault{hang: true}, false)
}

func (z *Zones) setFault(name string, qtype uint16, f fault, heal bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	q := question{dns.CanonicalName(name), qtype}
	if heal {
		delete(z.faults, q)
		return
	}
	if z.faults == nil {
		z.faults = make(map[question]fault)
	}
	z.faults[q] = f
}

// SetSecure makes answers that involve only such names Secure.
func (z *Zones) SetSecure(names ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.secure == nil {
		z.secure = make(map[string]bool)
	}
	for _, n := range names {
		z.secure[dns.CanonicalName(n)] = true
	}
}

// Queries returns the questions asked so far, in order.
func (z *Zones) Queries() []Question {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return append([]Question(nil), z.queries...)
}

// node returns the records at name, which exists from now on. z.mu is held.
func (z *Zones) node(name string) map[uint16][]dns.RR {
	if z.names == nil {
		z.names = make(map[string]map[uint16][]dns.RR)
	}
	n := dns.CanonicalName(name)
	types := z.names[n]
	if types == nil {
		types = make(map[uint16][]dns.RR)
		z.names[n] = types
	}
	return types
}

// Resolve answers from the records. See [Resolver].
func (z *Zones) Resolve(ctx context.Context, name string, qtype uint16) (Answer, error) {
	at := dns.CanonicalName(name)
	if _, ok := dns.IsDomainName(at); !ok {
		return Answer{}, &Error{Name: name, Type: qtype, Err: ErrName}
	}
	z.mu.Lock()
	z.queries = append(z.queries, Question{trimDot(at), qtype})
	z.mu.Unlock()

	z.mu.RLock()
	answer := Answer{Secure: true, TTL: 5 * time.Minute}
	var hang bool
	var err error
	for range maxChain {
		f, ok := z.faults[question{at, qtype}]
		if !ok {
			f, ok = z.faults[question{at, 0}]
		}
		if ok {
			hang, err = f.hang, f.err
			break
		}
		answer.Secure = answer.Secure && z.secure[at]
		rrs, target, exists := z.find(at, qtype)
		for _, rr := range rrs {
			answer.RRs = append(answer.RRs, rr)
			answer.TTL = min(answer.TTL, seconds(rr.Header().Ttl))
		}
		if target == "" {
			answer.NXDomain = !exists
			z.mu.RUnlock()
			return answer, nil
		}
		at = target
	}
	z.mu.RUnlock()

	switch {
	case hang:
		<-ctx.Done()
		return Answer{}, contextError(ctx, name, qtype)
	case err != nil:
		return Answer{}, &Error{Name: name, Type: qtype, Server: "zones", Err: err}
	}
	return Answer{}, &Error{Name: name, Type: qtype, Server: "zones", Err: fmt.Errorf("CNAME chain without end: %w", ErrServFail)}
}

// find returns what one name holds: records of the type, or the CNAME and
// where it leads. z.mu is held for reading.
func (z *Zones) find(at string, qtype uint16) (rrs []dns.RR, target string, exists bool) {
	types, exists := z.names[at]
	if !exists && z.hasChildren(at) {
		return nil, "", true // an empty non-terminal
	}
	wildcard := false
	if !exists {
		if types, exists = z.wildcard(at); !exists {
			return nil, "", false
		}
		wildcard = true
	}
	rrs = types[qtype]
	if len(rrs) == 0 && len(types[dns.TypeCNAME]) > 0 {
		rrs = types[dns.TypeCNAME][:1]
		target = dns.CanonicalName(rrs[0].(*dns.CNAME).Target)
	}
	if wildcard {
		own := make([]dns.RR, len(rrs))
		for i, rr := range rrs {
			own[i] = dns.Copy(rr)
			own[i].Header().Name = at
		}
		rrs = own
	}
	return rrs, target, true
}

func (z *Zones) hasChildren(at string) bool {
	suffix := "." + at
	for n := range z.names {
		if strings.HasSuffix(n, suffix) {
			return true
		}
	}
	return false
}

// wildcard finds the "*" child of the closest ancestor of at that exists.
func (z *Zones) wildcard(at string) (map[uint16][]dns.RR, bool) {
	for i, end := dns.NextLabel(at, 0); !end; i, end = dns.NextLabel(at, i) {
		if types, ok := z.names["*."+at[i:]]; ok {
			return types, true
		}
		if _, ok := z.names[at[i:]]; ok || z.hasChildren(at[i:]) {
			return nil, false
		}
	}
	return nil, false
}
