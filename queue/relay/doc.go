// Package relay delivers to the world: it is a queue.Transport made of the SMTP client, the DNS and a TLS policy, and
// it has the SMTP handler that enqueues.
//
//	transport := &relay.Transport{Resolver: cache, Hostname: "mx.example.org"}
//	runner := queue.Runner{Store: store, Transport: transport, Report: reports.Report}
//
// For each domain it asks for MX records, goes through the hosts by preference and through their addresses,
// and stays with the first that speaks to it. What one host refuses is refused; a host that can not be talked to
// gives way to the next; when none can, the outcome is queue.RouteDown.
//
//	RFC   section, feature                                             here
//	5321  5.1 MX by preference, equal ones shuffled, implicit MX       yes
//	5321  5.1 loop to ourselves, by name and by address                yes
//	5321  4.5.3.2 timeouts                                             yes, in smtp.Client
//	5321  4.1.3 address literals                                       yes
//	5321  6.3 loops by counting Received                               yes, both on the way in and out
//	7505  null MX                                                      yes: 5.1.10
//	3207  STARTTLS                                                     yes: opportunistic, or as Security says
//	3461  5.2 DSN parameters are passed on, or relayed is reported     yes
//	6152  8BITMIME, 6531 SMTPUTF8: downgrade                           dropped when not needed; no conversion
//	8689  REQUIRETLS                                                   yes
//	2033  LMTP hosts                                                   yes, over TCP and Unix sockets
//	8305  happy eyeballs                                               no: one address after the other
//	8461  MTA-STS, 7672 DANE                                           through the Security hook
package relay
