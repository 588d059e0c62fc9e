package dmarc

import "golang.org/x/net/publicsuffix"

// ByPublicSuffix returns the organizational domain by the public suffix list
// that golang.org/x/net carries (RFC 7489, 3.2), or "" for a public suffix. It
// is for Options.OrganizationalDomain.
func ByPublicSuffix(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return ""
	}
	return org
}
