// Package imapserver serves IMAP4rev1 and IMAP4rev2 over any imap.Store. The store knows
// UIDs, flags and octets; everything above that is done here, once: sequence numbers and what
// a session may be told when, FETCH, SEARCH, LIST patterns, literals, limits.
//
// A Server shares one Store between the sessions of a user, and one compact index between
// the sessions that have the same mailbox selected: 24 octets a message, however many look
// at it. A session sees a version of that index. What happened since is told when RFC 9051,
// 7.5.1 allows it, as it is then, not as it was when it happened.
//
// A message is parsed once: its common header fields, its structure and the places of its parts
// are kept in memory (Server.CacheBytes), or by a store that is an imap.ParsedCache, and answer
// FETCH, SEARCH, SORT and THREAD without opening the body. What has to be read is read on all
// processors.
//
//	RFC   subject                                     here
//	3501  IMAP4rev1                                   yes
//	9051  IMAP4rev2, by ENABLE                        yes
//	2177  IDLE                                        yes
//	2342  NAMESPACE                                   yes: the user's own, and others' with Server.Owners
//	2971  ID                                          yes
//	3348  CHILDREN                                    yes
//	3502  MULTIAPPEND                                 yes
//	3516  BINARY                                      yes: fetched; literal8 in APPEND
//	3691  UNSELECT                                    yes
//	4315  UIDPLUS                                     yes
//	4469  CATENATE                                    yes: URLs of the user's own messages
//	4731  ESEARCH                                     yes
//	4959  SASL-IR                                     yes
//	4978  COMPRESS=DEFLATE                            yes, once logged in
//	5032  WITHIN                                      yes
//	5161  ENABLE                                      yes
//	5182  SEARCHRES                                   yes
//	5255  I18NLEVEL=1, I18NLEVEL=2, LANGUAGE          yes: texts are English
//	5256  SORT, THREAD=ORDEREDSUBJECT, =REFERENCES    yes; also THREAD=REFS
//	5258  LIST-EXTENDED                               yes
//	5267  ESORT, CONTEXT=SEARCH, CONTEXT=SORT         yes
//	5465  NOTIFY                                      yes, but for AnnotationChange
//	5530  response codes                              yes
//	5819  LIST-STATUS                                 yes
//	5957  SORT=DISPLAY                                yes
//	6154  SPECIAL-USE, CREATE-SPECIAL-USE             yes, where the store keeps uses
//	6203  SEARCH=FUZZY                                yes: words and their beginnings
//	6851  MOVE                                        yes
//	6855  UTF8=ACCEPT                                 yes, but headers with UTF-8 may be appended without it
//	7162  CONDSTORE, QRESYNC                          yes
//	7377  MULTISEARCH                                 yes
//	7888  LITERAL+                                    yes; LITERAL- as an option
//	7889  APPENDLIMIT                                 yes
//	8314  implicit TLS                                yes, ServeTLS
//	8437  UNAUTHENTICATE                              yes
//	8438  STATUS=SIZE                                 yes
//	8474  OBJECTID                                    yes, where the store keeps ids
//	8508  REPLACE                                     yes; the store sees an append and an expunge
//	8514  SAVEDATE                                    yes, where the store keeps dates
//	8970  PREVIEW                                     yes
//	9394  PARTIAL                                     yes: SEARCH, SORT, UID FETCH
//	9585  INPROGRESS                                  yes: searches
//	9586  UIDONLY                                     yes; see Server.Advertise
//	9738  MESSAGELIMIT                                yes, as an option: not of searches
//	10022 UIDBATCHES                                  yes
//	4314  ACL, RIGHTS=                                yes, where the store keeps lists; no groups
//	4467  URLAUTH; 5092 IMAP URLs; 5524 URLAUTH=BINARY yes, where the store keeps annotations;
//	5464  METADATA                                    yes, where the store keeps annotations;
//	                                                  another's mailbox has no private ones
//	5466  FILTERS                                     yes, with METADATA
//	8440  LIST-MYRIGHTS                               yes, with ACL
//	9208  QUOTA, QUOTASET; 2087                       yes, where the store keeps quotas
//	9590  LIST-METADATA                               yes, with METADATA
//	9698  JMAPACCESS                                  yes: tells the embedder's URL
package imapserver
