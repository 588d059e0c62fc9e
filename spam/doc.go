// Package spam tells wanted mail from unwanted, and says why.
//
// [Parse] reads a message once; whatever it holds is evidence, never an error. A [Classifier]
// learns from examples ([Classifier.Learn]) and judges ([Classifier.Score]) with an online
// logistic regression and the log-odds of words, mixed as their worth shows. Its [Verdict] is
// a sum of reasons. What it learned is in a [Store]: a file ([OpenFile]), memory
// ([NewMemory]) or the embedder's own, proved by package spamtest. A [Chain] runs [Check]s of
// any kind at each stage of a message under one deadline, and never loses mail because one
// fails.
//
// Who writes a message can add any words to it, so its text speaks for ham only up to a bound.
// Who judges one can be wrong, or lie: a user teaches the shared model a bounded number of
// messages, a store keeps snapshots to go back to ([Classifier.Rollback]), and messages can be
// forgotten by sender, user or age ([Classifier.Forget]).
//
// The package knows no server: an [Envelope] holds facts that any can fill.
//
// What is read of the standards, tolerantly:
//
//	RFC  | section                          | read
//	2045 | 5 Content-Type, 6 encodings       | yes; malformed ones are defects
//	2046 | 5.1 multipart, 5.2.1 rfc822       | yes
//	2047 | encoded-words                     | yes, also across broken ones
//	2183 | Content-Disposition               | file name, attachment
//	2231 | parameters                        | in one piece; continuations no
//	5321 | 4.4 Received                      | names and networks
//	5322 | header fields, addresses          | yes; comments and groups roughly
//	6532 | UTF-8 in headers                  | yes
package spam
