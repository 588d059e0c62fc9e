// Package resolver asks the DNS on behalf of mail: one small interface that is
// easy to wrap, a client, a cache, a budget, and static zones for tests.
//
// The pieces stack:
//
//	client := &resolver.Client{Servers: []string{"127.0.0.1:53"}}
//	cache := &resolver.Cache{Next: client}          // one for the process
//	budget := &resolver.Budget{Next: cache, Max: 60} // one for each message
//
// "There is no such name", "the name has no such record", "the server failed"
// and "nobody answered" are four different things to mail: the first is a void
// look-up for SPF and a non-existent subdomain for DMARC, the third and fourth
// are reasons to try again later. [Answer] tells the first two apart, [Error]
// the others.
//
//	RFC            | feature                                        |
//	RFC 1035       | queries over UDP, TCP after truncation         | yes
//	RFC 2308       | negative caching by SOA minimum                | yes
//	RFC 3597       | unknown types (through miekg/dns)              | yes
//	RFC 4035, 3.2  | AD flag as Secure, from a trusted resolver     | yes
//	RFC 4592       | wildcards in static zones                      | yes
//	RFC 5452       | random ports and ids, question compared        | yes
//	RFC 5891       | U-labels to A-labels                           | yes
//	RFC 6891       | EDNS(0), fallback for servers without it       | yes
//	RFC 7766       | TCP connection reuse                           | no
//	RFC 8020       | NXDOMAIN cut                                   | no
//	RFC 8914       | extended errors (DNSSEC bogus)                 | yes
//	RFC 4035, 5    | validation of signatures by ourselves          | no
package resolver
