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
//	2852  4.1.4 DELIVERBY is passed on, or relayed is reported         yes; mode R goes to hosts that know it, else 5.3.3
//	6152  3 8BITMIME, 3030 BINARYMIME: conversion to 7 bits            with Downgrade, where no signature breaks; else 5.6.3
//	6531  3.2 SMTPUTF8                                                 dropped when not needed, domains as A-labels; else 5.6.7
//	8689  REQUIRETLS                                                   yes
//	2033  LMTP hosts                                                   yes, over TCP and Unix sockets
//	8305  4, 5 happy eyeballs                                          yes, the addresses of each host
//	8460  4 results of TLS, told to TLSResult; 3, 5 reports            yes, TLSReporter
//	8461  MTA-STS, 7672 DANE                                           through the Security hook; 8461 5 testing mode observed
package relay
