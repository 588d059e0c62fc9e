package imapclient

import (
	"context"

	"github.com/mailblocks/mailblocks/imap"
)

// LocalState is what a client keeps of a mailbox from one session to the next, beside the
// messages. The zero value knows nothing.
type LocalState struct {
	UIDValidity   uint32
	HighestModSeq imap.ModSeq // zero: flags are compared one by one
	UIDs          imap.UIDSet // of the messages that are known
}

// Resynced is what became of a mailbox since a LocalState.
type Resynced struct {
	Selected *Selected
	// Reset says that the UIDs of before mean nothing any more (RFC 9051, 2.3.1.1): all
	// messages were told as new, and what is kept of others must go.
	Reset bool
	// Vanished has the messages that were known and are gone.
	Vanished imap.UIDSet
	// State is what to keep for the next time, once what was told is kept, too.
	State LocalState
}

// Resync selects a mailbox and finds out what changed in it since known: by QRESYNC, by
// CONDSTORE and a search, or by the flags of all messages, whichever is the best that the server
// has (RFC 7162; RFC 4549, 4.3). Each is called with every message that is new or whose flags may
// have changed, with its UID, Flags and, where there are any, ModSeq; an error of it ends
// Resync. Both are streamed: it takes memory for sets of UIDs only.
func (c *Client) Resync(ctx context.Context, mailbox string, known LocalState, opts *SelectOptions, each func(m *Message) error) (*Resynced, error) {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return nil, err
	}
	quick := c.Enabled("QRESYNC")
	if caps["QRESYNC"] && !quick {
		on, err := c.Enable(ctx, "QRESYNC")
		if err != nil {
			return nil, err
		}
		quick = len(on) > 0
	}
	var how SelectOptions
	if opts != nil {
		how.ReadOnly = opts.ReadOnly
	}
	how.CondStore = caps["CONDSTORE"] || caps["QRESYNC"]
	s, err := c.Select(ctx, mailbox, &how)
	if err != nil {
		return nil, err
	}
	r := &Resynced{Selected: s, Reset: s.UIDValidity != known.UIDValidity}
	if r.Reset {
		known = LocalState{}
	}
	modSeqs := how.CondStore && !s.NoModSeq && s.HighestModSeq > 0
	// What happens from here on is told next time.
	r.State = LocalState{UIDValidity: s.UIDValidity}
	if modSeqs {
		r.State.HighestModSeq = s.HighestModSeq
	}
	items := FetchItems{Flags: true, ModSeq: modSeqs}
	since := known.HighestModSeq
	if modSeqs && since > 0 {
		if since == s.HighestModSeq {
			r.State.UIDs = known.UIDs
			return r, nil
		}
		items.ChangedSince = since
		if quick {
			items.Vanished = func(gone imap.UIDSet) { r.Vanished = r.Vanished.Union(gone.Intersect(known.UIDs)) }
		}
	}
	told := make(imap.UIDSet, 0)
	if s.Messages > 0 || items.Vanished != nil {
		for m, err := range c.Fetch(ctx, All(), items) {
			if err != nil {
				return nil, err
			}
			if m.Err != nil {
				return nil, m.Err
			}
			told.Add(m.UID)
			if err := each(m); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case items.Vanished != nil:
	case items.ChangedSince == 0:
		r.Vanished = known.UIDs.Subtract(told)
	case known.UIDs.Union(told).Len() != uint64(s.Messages):
		found, err := c.Search(ctx, Criteria{}, nil)
		if err != nil {
			return nil, err
		}
		r.Vanished = known.UIDs.Subtract(found.All)
	}
	r.State.UIDs = known.UIDs.Subtract(r.Vanished).Union(told)
	return r, nil
}
