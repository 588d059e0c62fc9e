// Package dane authenticates mail hosts by the TLSA records that their domains
// publish under DNSSEC (RFC 6698, RFC 7672).
//
// [Lookup] asks for the records of one mail host. What it finds decides how much
// TLS there must be with that host, in the words of queue/relay:
//
//	func security(ctx context.Context, domain string, mx resolver.MX, secure bool) (relay.Security, error) {
//		if !secure { // of the MX records (RFC 7672, 2.2.1)
//			return relay.Security{}, nil
//		}
//		set, err := dane.Lookup(ctx, r, mx.Host, 25, domain)
//		switch {
//		case err != nil: // not to be told from an attack
//			return relay.Security{Level: relay.Refused}, nil
//		case set.Status == dane.Absent:
//			return relay.Security{}, nil
//		}
//		return relay.Security{Level: relay.Encrypted, Config: set.Config(nil)}, nil
//	}
//
// The resolver's Secure answers are believed: the name server must be one that
// validates, on a path that nobody can change, such as one on the same host.
//
//	RFC            | section/feature                                       |
//	RFC 6698, 2.1  | TLSA records, selectors, matching types               | yes
//	RFC 7672, 2.2  | which look-ups must be secure, CNAMEs, unusable sets  | yes
//	RFC 7672, 3.1  | DANE-EE(3), DANE-TA(2); PKIX-TA and PKIX-EE unusable  | yes
//	RFC 7672, 3.2  | names to look for in certificates                     | yes
//	RFC 7671, 9    | digest agility                                        | yes
package dane
