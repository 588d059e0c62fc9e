// Package mtasts finds, keeps and applies the policies by which a domain says
// that its mail hosts must offer TLS with valid certificates (RFC 8461).
//
// A sender asks a [Client] for the domain's policy before it connects to a mail
// host. In mode enforce, a host that [Policy.Matches] must be given mail over TLS
// with a certificate that is valid for its name, and any other host none. In the
// words of queue/relay:
//
//	func security(ctx context.Context, domain string, mx resolver.MX, secure bool) (relay.Security, error) {
//		found, err := client.Policy(ctx, domain)
//		switch {
//		case err != nil:
//			return relay.Security{}, err
//		case found.Policy == nil || found.Policy.Mode != mtasts.Enforce:
//			return relay.Security{Level: relay.Opportunistic}, nil
//		case !found.Policy.Matches(mx.Host):
//			return relay.Security{Level: relay.Refused}, nil
//		}
//		return relay.Security{Level: relay.Verified}, nil
//	}
//
// Where a host has usable TLSA records, DANE comes first (RFC 8461, 2); see
// package dane.
//
//	RFC            | section/feature                                     |
//	RFC 8461, 3.1  | TXT record                                          | yes
//	RFC 8461, 3.2  | policy                                              | yes
//	RFC 8461, 3.3  | fetching: certificate, no redirects, limits, pauses | yes; no revocation checks
//	RFC 8461, 4.1  | matching of host names                              | yes
//	RFC 8461, 4.2  | certificates of mail hosts                          | by crypto/tls
//	RFC 8461, 5.1  | policies kept until they expire, refreshed daily    | yes
package mtasts
