package dane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Status is what a host's records oblige us to.
type Status uint8

const (
	// Absent means that DANE does not apply: there are no records, or they are
	// not secure.
	Absent Status = iota
	// Unusable means that there are secure records, but none that can be used:
	// TLS is required, without authentication (RFC 7672, 2.2).
	Unusable
	// Usable means that the host must be authenticated by Set.Verify.
	Usable
)

// Usage is how a record's certificate or key is to be used (RFC 7218).
type Usage uint8

// The usages. SMTP has no use for the first two (RFC 7672, 3.1.3).
const (
	PKIXTA Usage = 0
	PKIXEE Usage = 1
	DANETA Usage = 2 // a trust anchor in the host's chain
	DANEEE Usage = 3 // the host's own certificate or key
)

// Selector is what of a certificate is compared.
type Selector uint8

// The selectors.
const (
	Cert Selector = 0 // the whole certificate
	SPKI Selector = 1 // its SubjectPublicKeyInfo
)

// Matching is how it is compared.
type Matching uint8

// The matching types.
const (
	Full   Matching = 0
	SHA256 Matching = 1
	SHA512 Matching = 2
)

// Record is the content of a TLSA record.
type Record struct {
	Usage    Usage
	Selector Selector
	Matching Matching
	Data     []byte
}

// String returns the record's text, as in a zone file.
func (r Record) String() string {
	return fmt.Sprintf("%d %d %d %X", r.Usage, r.Selector, r.Matching, r.Data)
}

// usable is RFC 7672, 3.1, and whether we understand the record.
func (r Record) usable() bool {
	if r.Usage != DANETA && r.Usage != DANEEE || r.Selector > SPKI {
		return false
	}
	switch r.Matching {
	case Full:
		return len(r.Data) > 0
	case SHA256:
		return len(r.Data) == sha256.Size
	case SHA512:
		return len(r.Data) == sha512.Size
	}
	return false
}

// digest returns data as the record's matching type compares it.
func (r Record) digest(data []byte) []byte {
	switch r.Matching {
	case SHA256:
		sum := sha256.Sum256(data)
		return sum[:]
	case SHA512:
		sum := sha512.Sum512(data)
		return sum[:]
	}
	return data
}

func (r Record) matches(data []byte) bool { return bytes.Equal(r.digest(data), r.Data) }

// Set are the records of one host.
type Set struct {
	Status  Status
	Base    string   // the name the records stand under, for SNI: the host, or where its CNAMEs lead
	Names   []string // reference identifiers for DANE-TA: Base first (RFC 7672, 3.2.2)
	Records []Record // that are usable, after digest agility
	Ignored []Record // the others
}

// maxRecords bounds the records of one set.
const maxRecords = 100

// Lookup finds the TLSA records for a port of a host. nextHop are further names
// its certificate may have for a trust anchor's sake: the domain the mail is for
// (RFC 7672, 3.2.2), none of an insecure answer. It must only be asked when the
// MX records that led to the host were secure.
//
// An error means that it can't be known whether there are records: no mail may
// be given to the host then (RFC 7672, 2.1.2).
func Lookup(ctx context.Context, r resolver.Resolver, host string, port uint16, nextHop ...string) (*Set, error) {
	host, err := resolver.ToASCII(host)
	if err != nil {
		return nil, fmt.Errorf("dane: %w", err)
	}
	bases, err := baseDomains(ctx, r, host)
	if err != nil {
		return nil, err
	}
	for _, base := range bases {
		s, err := lookupBase(ctx, r, base, port)
		if err != nil {
			return nil, err
		}
		if s.Status == Absent {
			continue
		}
		for _, name := range append([]string{base, host}, nextHop...) {
			if name, err := resolver.ToASCII(name); err == nil && !slices.Contains(s.Names, name) {
				s.Names = append(s.Names, name)
			}
		}
		return s, nil
	}
	return &Set{Base: host, Names: []string{host}}, nil
}

// baseDomains returns the names to ask for TLSA records under (RFC 7672, 2.2.2
// and 2.2.3): the end of a secure CNAME chain before its beginning, and none
// for a host whose addresses are not secure.
func baseDomains(ctx context.Context, r resolver.Resolver, host string) ([]string, error) {
	type result struct {
		a   resolver.Answer
		err error
	}
	six := make(chan result, 1)
	go func() {
		a, err := r.Resolve(ctx, host, dns.TypeAAAA)
		six <- result{a, err}
	}()
	a, err := r.Resolve(ctx, host, dns.TypeA)
	r6 := <-six
	if err != nil {
		a, err = r6.a, r6.err
	}
	if err != nil {
		return nil, fmt.Errorf("dane: addresses of %s: %w", host, err)
	}
	final := a.FinalName(host)
	switch {
	case final == host && a.Secure:
		return []string{host}, nil
	case final == host:
		return nil, nil
	case a.Secure:
		return []string{final, host}, nil
	}
	// The chain is not secure as a whole, but its first link may be.
	first, err := r.Resolve(ctx, host, dns.TypeCNAME)
	if err != nil {
		return nil, fmt.Errorf("dane: CNAME of %s: %w", host, err)
	}
	if first.Secure {
		return []string{host}, nil
	}
	return nil, nil
}

// errTooMany is for sets that nobody publishes in earnest.
var errTooMany = errors.New("too many TLSA records")

func lookupBase(ctx context.Context, r resolver.Resolver, base string, port uint16) (*Set, error) {
	name := "_" + strconv.Itoa(int(port)) + "._tcp." + base
	a, err := r.Resolve(ctx, resolver.EscapeName(name), dns.TypeTLSA)
	if errors.Is(err, resolver.ErrName) {
		return &Set{}, nil // too long to exist
	}
	if err != nil {
		return nil, fmt.Errorf("dane: records of %s: %w", base, err)
	}
	s := &Set{Base: base}
	if !a.Secure {
		return s, nil
	}
	rrs := resolver.Records[*dns.TLSA](a)
	if len(rrs) > maxRecords {
		return nil, fmt.Errorf("dane: records of %s: %w", base, errTooMany)
	}
	for _, rr := range rrs {
		data, err := hex.DecodeString(rr.Certificate)
		rec := Record{Usage(rr.Usage), Selector(rr.Selector), Matching(rr.MatchingType), data}
		if err == nil && rec.usable() {
			s.Records = append(s.Records, rec)
		} else {
			s.Ignored = append(s.Ignored, rec)
		}
	}
	s.prefer()
	switch {
	case len(s.Records) > 0:
		s.Status = Usable
	case len(s.Ignored) > 0:
		s.Status = Unusable
	}
	return s, nil
}

// prefer leaves of each usage and selector the strongest digest only, beside
// full data (RFC 7671, 9).
func (s *Set) prefer() {
	strongest := make(map[[2]uint8]Matching)
	key := func(r Record) [2]uint8 { return [2]uint8{uint8(r.Usage), uint8(r.Selector)} }
	for _, r := range s.Records {
		strongest[key(r)] = max(strongest[key(r)], r.Matching)
	}
	keep := s.Records[:0:0]
	for _, r := range s.Records {
		if r.Matching == Full || r.Matching == strongest[key(r)] {
			keep = append(keep, r)
		} else {
			s.Ignored = append(s.Ignored, r)
		}
	}
	s.Records = keep
}
