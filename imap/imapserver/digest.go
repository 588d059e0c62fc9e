package imapserver

import (
	"bytes"
	"context"
	"math"
	"runtime"
	"sync"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

// digests are what is known of messages of one mailbox without opening them.
type digests map[imap.UID]*mimetree.Digest

// digests returns what can be known of messages, with the trees of their parts when full: from
// what the store keeps, or by reading them, on all processors, for the store to keep. Of
// messages that cannot be read there is none. Each, if there is one, is called with the others,
// several at a time, while what is parsed of them is at hand.
func (b *box) digests(ctx context.Context, entries []*entry, full bool, each func(i int, m *message)) digests {
	out := make(digests, len(entries))
	parsed, kept := imap.Upgrade[imap.ParsedCache](b.mb)
	cache := &b.account.server.cache
	take := func(uid imap.UID, octets []byte) {
		if d, err := mimetree.ParseDigest(octets); err == nil && (!full || d.HasTree()) {
			out[uid] = d
		}
	}
	if kept {
		var set imap.UIDSet
		for _, e := range entries {
			set.Add(e.uid)
		}
		for uid, octets := range parsed.Parsed(ctx, set) {
			take(uid, bytes.Clone(octets))
		}
	}
	var todo []int
	for i, e := range entries {
		if !kept {
			take(e.uid, cache.get(b.digestKey(e.uid)))
		}
		d := out[e.uid]
		if d != nil && e.size != math.MaxUint32 && d.Size != int64(e.size) {
			delete(out, e.uid)
			d = nil
		}
		if d == nil || each != nil {
			todo = append(todo, i)
		}
	}
	made := make([]*mimetree.Digest, len(todo))
	inParallel(len(todo), 8, func(k int) {
		i := todo[k]
		m := &message{mb: b.mb, uid: entries[i].uid, digest: out[entries[i].uid]}
		defer m.close()
		if m.digest == nil && ctx.Err() == nil {
			made[k] = m.makeDigest(ctx, full)
		}
		if each != nil && (m.digest != nil || made[k] != nil) {
			each(i, m)
		}
	})
	fresh := make(map[imap.UID][]byte)
	for k, d := range made {
		if d == nil {
			continue
		}
		uid := entries[todo[k]].uid
		out[uid] = d
		if octets := d.Append(nil); kept {
			fresh[uid] = octets
		} else {
			cache.put(b.digestKey(uid), octets)
		}
	}
	if len(fresh) > 0 {
		parsed.KeepParsed(ctx, fresh)
	}
	return out
}

func (b *box) digestKey(uid imap.UID) cacheKey {
	return cacheKey{box: b.id, uid: uid, kind: itemDigest}
}

// makeDigest reads the message, nil when that cannot be: whoever needs it finds out why.
func (m *message) makeDigest(ctx context.Context, full bool) *mimetree.Digest {
	p, err := (*mimetree.Part)(nil), error(nil)
	if full {
		err = m.parse(ctx)
		p = m.tree
	} else {
		err = m.parseHeader(ctx)
		p = m.header
	}
	if err != nil {
		return nil
	}
	d, err := mimetree.NewDigest(m.body, m.body.Size(), p, !full)
	if err != nil || len(d.Append(nil)) > maxDigest {
		return nil
	}
	return d
}

// maxDigest bounds a digest, and what is made of it ahead: there are as many as messages in a
// batch. Messages that need more are read each time.
const maxDigest = 16 << 10

// inParallel calls do with 0 to n-1, several at a time when there are at least that many for
// each who works.
func inParallel(n, least int, do func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), maxParallel, (n+least-1)/least)
	var wg sync.WaitGroup
	for w := range workers {
		part := func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		}
		if w == workers-1 {
			part()
		} else {
			wg.Go(part)
		}
	}
	wg.Wait()
}

// maxParallel bounds the processors that one session takes.
const maxParallel = 8
