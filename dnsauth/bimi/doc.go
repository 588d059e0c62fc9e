// Package bimi finds the indicator that a domain wants shown beside its messages:
// the record, and the image it names.
//
// Only a message that passed DMARC under a policy of quarantine or reject, for
// all of its mail, may have one ([Eligible]). Without a checked Verified Mark
// Certificate an indicator is a domain's own claim: this package finds the
// certificate's address, and leaves the proof to others.
//
//	RFC                                   | section/feature                      |
//	draft-brand-indicators-for-message-identification, 4 | record, selectors, fallback to the organizational domain | yes
//	the same, 5                           | indicator: HTTPS, size, SVG          | yes, no check of SVG Tiny PS beyond scripts
//	draft-fetch-validation-vmc            | evidence documents                   | address only
package bimi
