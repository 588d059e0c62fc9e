// Package imapclient speaks IMAP4rev1 and IMAP4rev2 to a server.
//
// A [Client] is safe for concurrent use. Commands of several goroutines are pipelined; one
// goroutine reads what comes and gives it to whom it belongs. What the server says unasked goes
// to the functions of a [Handler]. [Client.Fetch] streams: a message of any size takes some KiB
// of memory, and the loop over messages may use the Client. A context that ends leaves the
// session in step, or closes it and says so.
//
// Nothing that a server sends makes a Client hold more memory than its [ClientOptions] allow,
// keep a call from ending with its context, or take what came in the clear for what came by TLS.
//
// Methods that need an extension return [ErrNoCapability] where the server has none, unless
// they say what they do instead.
//
//	RFC   subject                                     here
//	3501  IMAP4rev1                                   yes
//	9051  IMAP4rev2                                   yes, by Enable
//	2177  IDLE                                        yes
//	2342  NAMESPACE                                   yes
//	2971  ID                                          yes
//	3502  MULTIAPPEND                                 yes
//	3516  BINARY                                      yes
//	3691  UNSELECT                                    yes, and without it in another way
//	4314  ACL                                         yes
//	4315  UIDPLUS                                     yes
//	4467  URLAUTH                                     yes; BINARY URLs (5524): no
//	4469  CATENATE                                    yes
//	4731  ESEARCH                                     yes, and without it where SEARCH will do
//	4959  SASL-IR                                     yes
//	4978  COMPRESS=DEFLATE                            yes
//	5032  WITHIN                                      yes
//	5161  ENABLE                                      yes
//	5182  SEARCHRES                                   yes: Saved
//	5255  LANGUAGE, I18NLEVEL=2                       yes
//	5256  SORT, THREAD                                yes
//	5258  LIST-EXTENDED                               yes
//	5267  ESORT, CONTEXT=SEARCH, CONTEXT=SORT         yes
//	5464  METADATA                                    yes
//	5465  NOTIFY                                      yes; bodies of new messages are not asked for
//	5466  FILTERS                                     yes: Criteria.Filter
//	5530  response codes                              yes, as errors of package imap where it has them
//	5819  LIST-STATUS                                 yes
//	5957  SORT=DISPLAY                                yes
//	6154  SPECIAL-USE, CREATE-SPECIAL-USE             yes
//	6203  SEARCH=FUZZY                                yes
//	6851  MOVE                                        yes, and without it in another way
//	6855  UTF8=ACCEPT                                 yes
//	7162  CONDSTORE, QRESYNC                          yes
//	7377  MULTISEARCH                                 yes
//	7888  LITERAL+, LITERAL-                          yes
//	7889  APPENDLIMIT                                 yes: StatusAppendLimit
//	8314  implicit TLS                                yes: DialTLS
//	8437  UNAUTHENTICATE                              yes
//	8438  STATUS=SIZE                                 yes
//	8440  LIST-MYRIGHTS                               yes
//	8474  OBJECTID                                    yes
//	8508  REPLACE                                     yes
//	8514  SAVEDATE                                    yes
//	8970  PREVIEW                                     yes
//	9208  QUOTA, QUOTASET                             yes
//	9394  PARTIAL                                     yes
//	9585  INPROGRESS                                  yes: to Handler.Status
//	9586  UIDONLY                                     yes
//	9590  LIST-METADATA                               yes
//	9738  MESSAGELIMIT                                no: a limit that is met is an *Error
//	10022 UIDBATCHES                                  yes
package imapclient
