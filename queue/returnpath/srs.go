package returnpath

import (
	"strings"
	"time"
)

// SRS rewrites the reverse-path of mail that is forwarded, so that it passes SPF from here and its reports find the way back: the
// Sender Rewriting Scheme. ann@example.org becomes SRS0=k5qh2m=4f=example.org=ann@forward.example; what another
// forwarder has rewritten becomes SRS1=…, which holds the first of them, so that addresses do not grow.
type SRS struct {
	// Domain is that of the addresses made. Required.
	Domain string

	// Keys authenticate addresses: the first makes them, any proves them. At least one.
	Keys [][]byte

	// Local, if not nil, says whether a domain is ours, so that its senders need no rewriting. Nil means Domain alone.
	Local func(domain string) bool

	// MaxAge is how old an address may be, of days whole. 0 means 21 days.
	MaxAge time.Duration

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

const stampDigits = "abcdefghijklmnopqrstuvwxyz234567"

// today counts days, modulo 1024.
func (s *SRS) today() int {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	return int(now().Unix() / (24 * 60 * 60) % 1024)
}

func (s *SRS) local(domain string) bool {
	if s.Local != nil {
		return s.Local(domain)
	}
	return strings.EqualFold(domain, s.Domain)
}

// Forward gives the reverse-path to forward with. The null sender, our own senders, and what would be too long, stay as they
// are.
func (s *SRS) Forward(sender string) string {
	local, domain, ok := split(sender)
	if !ok || s.local(domain) || len(s.Keys) == 0 {
		return sender
	}
	var rewritten string
	switch kind, rest := scheme(local); kind {
	case "SRS0":
		rewritten = s.srs1(domain, rest)
	case "SRS1":
		_, rest, ok := strings.Cut(rest[1:], "=") // the other's code
		host, rest, ok2 := strings.Cut(rest, "=")
		if !ok || !ok2 || host == "" || rest == "" {
			return sender
		}
		rewritten = s.srs1(host, rest)
	default:
		day := s.today()
		stamp := string([]byte{stampDigits[day>>5], stampDigits[day&31]})
		rewritten = "SRS0=" + code(s.Keys[0], "0", stamp, domain, local) + "=" + stamp + "=" + domain + "=" + local
	}
	if len(rewritten) > maxLocal {
		return sender
	}
	return rewritten + "@" + s.Domain
}

func (s *SRS) srs1(host, rest string) string {
	return "SRS1=" + code(s.Keys[0], "1", host, rest) + "=" + host + "=" + rest
}

// scheme tells a rewritten local part from others; rest begins with the separator, "=", "+" or "-".
func scheme(local string) (kind, rest string) {
	if len(local) > 5 && strings.ContainsRune("=+-", rune(local[4])) {
		if kind = strings.ToUpper(local[:4]); kind == "SRS0" || kind == "SRS1" {
			return kind, local[4:]
		}
	}
	return "", local
}

// Reverse gives the address that Forward was given, to which a report for address goes. ErrInvalid: it is no address of
// ours, forged, or too old.
func (s *SRS) Reverse(address string) (string, error) {
	local, domain, ok := split(address)
	if !ok || !strings.EqualFold(domain, s.Domain) {
		return "", ErrInvalid
	}
	kind, rest := scheme(local)
	if kind == "" {
		return "", ErrInvalid
	}
	proof, rest, ok := strings.Cut(rest[1:], "=")
	if !ok {
		return "", ErrInvalid
	}
	if kind == "SRS1" {
		host, rest, ok := strings.Cut(rest, "=")
		if !ok || host == "" || rest == "" || !proven(s.Keys, proof, "1", host, rest) {
			return "", ErrInvalid
		}
		return "SRS0" + rest + "@" + host, nil
	}
	stamp, rest, ok := strings.Cut(rest, "=")
	host, user, ok2 := strings.Cut(rest, "=")
	if !ok || !ok2 || host == "" || user == "" || !proven(s.Keys, proof, "0", stamp, host, user) || !s.fresh(stamp) {
		return "", ErrInvalid
	}
	return user + "@" + host, nil
}

func (s *SRS) fresh(stamp string) bool {
	stamp = strings.ToLower(stamp)
	if len(stamp) != 2 {
		return false
	}
	high, low := strings.IndexByte(stampDigits, stamp[0]), strings.IndexByte(stampDigits, stamp[1])
	if high < 0 || low < 0 {
		return false
	}
	limit := s.MaxAge
	if limit == 0 {
		limit = 21 * 24 * time.Hour
	}
	age := (s.today() - (high<<5 | low) + 1024) % 1024
	return age <= int(limit/(24*time.Hour)) || age == 1023 // made by a host whose clock is ahead
}
