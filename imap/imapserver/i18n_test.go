package imapserver

import (
	"testing"
)

func TestLanguage(t *testing.T) { // RFC 5255, 3.2
	ts := newServer(t, nil)
	play(t, ts.player(), `
S~ \* OK .*
C: a LANGUAGE
S: * LANGUAGE (EN i-default)
S: a OK these are the languages
C: b LANGUAGE MUL
S: b NO no such language is spoken here
C: c LANGUAGE FR-CA "EN-CA"
S: * LANGUAGE (EN)
S: c OK now speaking English
C: d LANGUAGE "default"
S: * LANGUAGE (i-default)
S: d OK now speaking English
`)
}

func TestComparator(t *testing.T) { // RFC 5255, 4.7
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX",
		text("Subject: =?utf-8?q?GR=C3=9C=C3=9FE?=\n\nBODY\n"), text("Subject: b\n\nbody\n"), text("Subject: A\n\nBody\n"), text("Subject: B\n\n"))
	p := ts.session("ann")
	play(t, p, `
C: a COMPARATOR
S: * COMPARATOR i;unicode-casemap
S: a OK that is it
C: s EXAMINE INBOX
S* \* .*
S~ s OK .*
C: c SEARCH CHARSET UTF-8 SUBJECT {6+}
C: grüß
S: * SEARCH 1
S: c OK searched
C: d SORT (SUBJECT) UTF-8 ALL
S: * SORT 3 2 4 1
S: d OK sorted
C: e COMPARATOR "cz;*" i;octet
S: * COMPARATOR i;octet
S: e OK strings are compared with i;octet
C: f SEARCH BODY body
S: * SEARCH 2
S: f OK searched
C: g SORT (SUBJECT) UTF-8 ALL
S: * SORT 3 4 1 2
S: g OK sorted
C: h COMPARATOR i;ascii-casemap
S: * COMPARATOR i;ascii-casemap
S: h OK strings are compared with i;ascii-casemap
C: i SEARCH BODY body
S: * SEARCH 1 2 3
S: i OK searched
C: j SEARCH CHARSET UTF-8 SUBJECT {6+}
C: grüß
S: * SEARCH
S: j OK searched
C: k COMPARATOR "i;*"
S: * COMPARATOR i;unicode-casemap (i;unicode-casemap i;ascii-casemap i;octet)
S: k OK strings are compared with i;unicode-casemap
C: l COMPARATOR i;basic
S: l NO [BADCOMPARATOR] there is no such comparator
C: m COMPARATOR default
S: * COMPARATOR i;unicode-casemap
S~ m OK .*
C: n THREAD ORDEREDSUBJECT UTF-8 ALL
S: * THREAD (1)(2 4)(3)
S: n OK threaded
`)
}

func TestUTF8Accept(t *testing.T) { // RFC 6855
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", text("Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\n\nbody\n"), text("From: gr\u00fc\u00dfe@example.org\nSubject: gr\u00fc\u00dfe\n\nbody\n"))
	ts.fill("ann", "Entw\u00fcrfe")
	p := ts.session("ann")
	play(t, p, `
C: a LIST "" "Entw*"
S: * LIST (\HasNoChildren) "/" Entw&APw-rfe
S~ a OK .*
C: b ENABLE UTF8=ACCEPT
S: * ENABLED UTF8=ACCEPT
S~ b OK .*
C: c LIST "" "Entwü*"
S: * LIST (\HasNoChildren) "/" "Entwürfe"
S~ c OK .*
C: d STATUS "Entwürfe" (MESSAGES)
S: * STATUS "Entwürfe" (MESSAGES 0)
S~ d OK .*
C: e SELECT INBOX
S* \* .*
S~ e OK .*
C: f SEARCH CHARSET UTF-8 SUBJECT "x"
S: f BAD no charset after ENABLE UTF8=ACCEPT
C: g SEARCH SUBJECT "grüße"
S: * SEARCH 1 2
S: g OK searched
C: h FETCH 2 ENVELOPE
S: * 2 FETCH (ENVELOPE (NIL "grüße" ((NIL NIL "grüße" "example.org")) ((NIL NIL "grüße" "example.org")) ((NIL NIL "grüße" "example.org")) NIL NIL NIL NIL NIL))
S: h OK fetched
C: i APPEND "Entwürfe" (\Seen) UTF8 (~{21+}
C: Subject: grüße
C:
C: x)
S~ i OK \[APPENDUID \d+ 1\] .*
C: j APPEND "Entwürfe" CATENATE (UTF8 (~{20+}
C: Subject: grüße
C:
C: ) TEXT {2+}
C: ab)
S~ j OK \[APPENDUID \d+ 2\] .*
C: k APPEND "Entwürfe" UTF8 ({3+}
C: abc)
S: k BAD expected a literal8
C: l CREATE "Entwürfe/Neu"
S~ l OK .*
C: m STATUS "Entwürfe" (MESSAGES)
S: * STATUS "Entwürfe" (MESSAGES 2)
S~ m OK .*
`)
	play(t, p, "C: n STATUS \"Entw\xff\" (MESSAGES)\nS: n BAD no UTF-8 in a string")
}

func TestFuzzy(t *testing.T) { // RFC 6203
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX",
		text("Subject: IMAP break\nFrom: user@example.com\n\nhello\n"),
		text("Subject: broken IMAP\nFrom: other@example.com\n\nhelp\n"),
		text("Subject: IMAP is broken\nFrom: user@example.com\n\nWorld\n"),
		text("Subject: lunch\nFrom: user@example.com\n\nnothing\n"))
	p := ts.session("ann")
	play(t, p, `
C: s EXAMINE INBOX
S* \* .*
S~ s OK .*
C: a1 SEARCH FUZZY (SUBJECT "IMAP break")
S: * SEARCH 1 2 3
S: a1 OK searched
C: a2 SEARCH FUZZY SUBJECT work FROM user@example.com
S: * SEARCH
S: a2 OK searched
C: a3 SEARCH FUZZY SUBJECT breaks FROM user@example.com
S: * SEARCH 1
S: a3 OK searched
C: b1 SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT "Helo"
S: * ESEARCH (TAG "b1") ALL 1:2 RELEVANCY (60 60)
S: b1 OK searched
C: c1 SORT (RELEVANCY ARRIVAL) UTF-8 FUZZY SUBJECT "IMAP broken"
S: * SORT 2 3 1
S: c1 OK sorted
C: c2 UID SORT RETURN (RELEVANCY ALL) (RELEVANCY) UTF-8 FUZZY SUBJECT "IMAP broken"
S: * ESEARCH (TAG "c2") UID ALL 2:3,1 RELEVANCY (95 95 50)
S: c2 OK sorted
C: c3 SORT RETURN (PARTIAL 1:1 RELEVANCY) (RELEVANCY) UTF-8 FUZZY SUBJECT "broken imap"
S: * ESEARCH (TAG "c3") PARTIAL (1:1 2) RELEVANCY (100)
S: c3 OK sorted
C: d1 SEARCH RETURN (RELEVANCY) TEXT "Helo"
S: d1 BAD RELEVANCY needs FUZZY
C: d2 SORT (RELEVANCY) UTF-8 ALL
S: d2 BAD RELEVANCY needs FUZZY
C: d3 SEARCH FUZZY UNSEEN NOT FUZZY SUBJECT lunch
S: * SEARCH 1 2 3
S: d3 OK searched
C: d4 SEARCH RETURN (RELEVANCY COUNT) FUZZY SUBJECT zzz
S: * ESEARCH (TAG "d4") COUNT 0 RELEVANCY ()
S: d4 OK searched
`)
}

func TestMultisearch(t *testing.T) { // RFC 7377
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", text("Subject: chad\n\nx\n"), text("Subject: other\n\nx\n"))
	ts.fill("ann", "folder1", text("Subject: x\n\nx\n"), text("Subject: chad\n\nx\n"))
	ts.fill("ann", "folder2/banana", text("Subject: chad\n\nx\n"))
	ts.fill("ann", "folder2/banana/deep", text("Subject: chad\n\nx\n"))
	ts.fill("ann", "folder2/empty")
	p := ts.session("ann")
	play(t, p, `
C: t1 ESEARCH IN (mailboxes "folder1" subtree "folder2") unseen
S~ \* ESEARCH \(TAG "t1" MAILBOX folder1 UIDVALIDITY \d+\) UID ALL 1:2
S~ \* ESEARCH \(TAG "t1" MAILBOX folder2/banana UIDVALIDITY \d+\) UID ALL 1
S~ \* ESEARCH \(TAG "t1" MAILBOX folder2/banana/deep UIDVALIDITY \d+\) UID ALL 1
S: t1 OK searched
C: t2 ESEARCH IN (mailboxes "folder1" subtree-one "folder2") subject "chad"
S~ \* ESEARCH \(TAG "t2" MAILBOX folder1 UIDVALIDITY \d+\) UID ALL 2
S~ \* ESEARCH \(TAG "t2" MAILBOX folder2/banana UIDVALIDITY \d+\) UID ALL 1
S: t2 OK searched
C: t3 ESEARCH UNSEEN
S: t3 BAD no mailbox is selected
C: t4 ESEARCH IN (selected) UNSEEN
S: t4 BAD no mailbox is selected
C: t5 SUBSCRIBE folder1
S~ t5 OK .*
C: t6 ESEARCH IN (subscribed mailboxes (nowhere folder1)) RETURN (MIN MAX COUNT) SUBJECT chad 1:*
S~ \* ESEARCH \(TAG "t6" MAILBOX folder1 UIDVALIDITY \d+\) UID MIN 2 MAX 2 COUNT 1
S: t6 OK searched
C: t7 SELECT INBOX
S* \* .*
S~ t7 OK .*
C: t8 ESEARCH SUBJECT chad
S~ \* ESEARCH \(TAG "t8" MAILBOX INBOX UIDVALIDITY \d+\) UID ALL 1
S: t8 OK searched
C: t9 UID ESEARCH FROM "frobozz" 1:100
S: t9 OK searched
C: u1 ESEARCH RETURN (SAVE) SUBJECT chad
S: u1 OK searched
C: u2 UID FETCH $ (UID)
S: * 1 FETCH (UID 1)
S: u2 OK fetched
C: u3 ESEARCH IN (selected personal) RETURN (SAVE) ALL
S: u3 BAD SAVE is for the selected mailbox alone
C: u4 ESEARCH IN (selected personal) RETURN (COUNT) CHARSET UTF-8 SUBJECT chad
S~ \* ESEARCH \(TAG "u4" MAILBOX INBOX UIDVALIDITY \d+\) UID COUNT 1
S~ \* ESEARCH \(TAG "u4" MAILBOX folder1 UIDVALIDITY \d+\) UID COUNT 1
S~ \* ESEARCH \(TAG "u4" MAILBOX folder2/banana UIDVALIDITY \d+\) UID COUNT 1
S~ \* ESEARCH \(TAG "u4" MAILBOX folder2/banana/deep UIDVALIDITY \d+\) UID COUNT 1
S: u4 OK searched
C: u5 ESEARCH IN (selected-delayed) ALL
S: u5 BAD no such mailboxes
C: u6 ESEARCH IN (personal) RETURN (PARTIAL 1:1) ALL
S~ \* ESEARCH \(TAG "u6" MAILBOX INBOX UIDVALIDITY \d+\) UID PARTIAL \(1:1 1\)
S~ \* ESEARCH \(TAG "u6" MAILBOX folder1 UIDVALIDITY \d+\) UID PARTIAL \(1:1 1\)
S~ \* ESEARCH \(TAG "u6" MAILBOX folder2/banana UIDVALIDITY \d+\) UID PARTIAL \(1:1 1\)
S~ \* ESEARCH \(TAG "u6" MAILBOX folder2/banana/deep UIDVALIDITY \d+\) UID PARTIAL \(1:1 1\)
S: u6 OK searched
C: u7 SEARCH ALL
S: * SEARCH 1 2
S: u7 OK searched
`)
}

func TestThreadRefs(t *testing.T) { // draft-ietf-morg-inthread
	ts := newServer(t, nil)
	msg := func(id, refs, subject, date string) string {
		return "Message-ID: <" + id + "@x>\nReferences: " + refs + "\nSubject: " + subject + "\nDate: " + date + "\n\nx\n"
	}
	ts.fill("ann", "INBOX",
		text(msg("1", "", "a", "Wed, 17 Jul 2024 10:00:00 +0000")),
		text(msg("2", "", "b", "Wed, 17 Jul 2024 09:00:00 +0000")),
		text(msg("3", "", "a", "Wed, 17 Jul 2024 08:00:00 +0000")),
		text(msg("4", "<1@x>", "Re: a", "Wed, 17 Jul 2024 11:00:00 +0000")))
	p := ts.session("ann")
	play(t, p, "C: s EXAMINE INBOX\nS* \\* .*\nS~ s OK .*\nC: a THREAD REFS UTF-8 ALL\nS: * THREAD (2)(3)(1 4)\nS: a OK threaded")
}
