// Package dkim verifies and makes DKIM signatures while the message streams by
// (DomainKeys Identified Mail, RFC 6376).
//
// [Verifier] and [Signer] are io.Writers that take the message with its CRLF
// line ends once, in chunks of any size. They keep the header, up to a limit,
// and of the body no more than a hash state for each canonicalization in use.
//
//	RFC               | section/feature                                    |
//	RFC 6376, 3.4     | simple and relaxed canonicalization                | yes
//	RFC 6376, 3.5     | all tags; z= is left alone, q= must offer dns/txt  | yes
//	RFC 6376, 3.6     | key records; PKCS#1 and SPKI keys, t=, s=, h=      | yes
//	RFC 6376, 5.4     | default fields to sign, oversigned                 | yes
//	RFC 6376, 8.2     | l=: refused when it leaves octets unsigned         | yes
//	RFC 6376, 8.15    | fields added beside signed ones are noticed        | yes
//	RFC 8301          | no rsa-sha1, no RSA keys under 1024 bits           | yes
//	RFC 8463          | ed25519-sha256                                     | yes
//	RFC 8616          | internationalised d=, s= and i=                    | yes
//	RFC 6541          | authorised third-party signatures (ATPS)           | no
package dkim
