package storetest

import (
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// testParsedCache keeps octets for messages and looks for them everywhere. Those that are lost
// are no failure, but none must be another message's.
func testParsedCache(f *fixture) {
	a, b := f.twice()
	cache, ok := imap.Upgrade[imap.ParsedCache](a)
	if !ok {
		f.Skip("the store has no such upgrade")
	}
	other, _ := imap.Upgrade[imap.ParsedCache](b)
	var msgs []imap.NewMessage
	for range 3 {
		msgs = append(msgs, imap.NewMessage{Body: strings.NewReader("Subject: x\r\n\r\nx")})
	}
	done, err := a.Append(f.ctx, msgs)
	f.must("Append", err)
	octets := make(map[imap.UID][]byte)
	for _, uid := range done.UIDs {
		octets[uid] = fmt.Append(nil, "of ", uid)
	}
	cache.KeepParsed(f.ctx, octets)
	cache.KeepParsed(f.ctx, map[imap.UID][]byte{done.UIDs[1]: []byte("later")})
	octets[done.UIDs[1]] = []byte("later")
	look := func(c imap.ParsedCache, set imap.UIDSet) (n int) {
		seen := make(map[imap.UID]bool)
		for uid, got := range c.Parsed(f.ctx, set) {
			if !set.Contains(uid) || seen[uid] {
				f.Errorf("Parsed(%s) yields %d, which was not asked for, or twice", set, uid)
			}
			if string(got) != string(octets[uid]) {
				f.Errorf("Parsed yields %q for %d, want what was kept last: %q", got, uid, octets[uid])
			}
			seen[uid] = true
			n++
		}
		return n
	}
	if n := look(cache, imap.AllUIDs); n == 0 {
		f.Errorf("Parsed yields nothing of what was just kept")
	}
	look(cache, imap.NumSetOf(done.UIDs[1:]...))
	look(other, imap.AllUIDs)
	for range cache.Parsed(f.ctx, imap.AllUIDs) {
		break // a caller may stop
	}
	f.must("Expunge", a.Expunge(f.ctx, imap.NumSetOf(done.UIDs[0]), false))
	look(cache, imap.AllUIDs)
}
