package imapclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/mailblocks/mailblocks/imap"
)

// FetchItems say what to fetch of each message. The UID always is.
type FetchItems struct {
	Flags, InternalDate, Size, Envelope bool
	Structure                           bool // BODYSTRUCTURE
	ModSeq                              bool // RFC 7162
	SaveDate                            bool // RFC 8514
	EmailID, ThreadID                   bool // RFC 8474
	Preview                             bool // RFC 8970
	PreviewLazy                         bool // only previews that cost the server nothing
	Sections                            []Section
	BinarySizes                         [][]int // parts whose decoded size to tell (RFC 3516)

	// ChangedSince leaves out messages that have not changed since (RFC 7162, 3.1.4.1).
	ChangedSince imap.ModSeq
	// Vanished, with ChangedSince, is called in the loop with the UIDs of the set that
	// were expunged since (RFC 7162, 3.2.6), before the messages that came behind them.
	// QRESYNC must have been enabled.
	Vanished func(gone imap.UIDSet)
	// Partial leaves out all but some of the messages (RFC 9394): for UIDs only.
	Partial Partial
}

// Partial is a window on results, which are numbered from 1: the first are 1 to 10; the last,
// from the end, -1 to -10 (RFC 9394). The zero value is all.
type Partial struct{ First, Last int64 }

// String returns the range as FETCH takes it, "first:last".
func (p Partial) String() string { return fmt.Sprintf("%d:%d", p.First, p.Last) }

func (p Partial) check() error {
	if p != (Partial{}) && (p.First == 0 || p.Last == 0 || p.First > 0 != (p.Last > 0)) {
		return fmt.Errorf("%w: partial %v", ErrArgument, p)
	}
	return nil
}

var errStale = errors.New("imapclient: the body is valid until the next one is asked for")

// A fetching is a FETCH on its way: the reading goroutine puts messages in, a loop takes them.
type fetching struct {
	set   Set
	asked items

	mu      sync.Mutex
	change  *sync.Cond
	queue   []any    // *Message, or *vanished
	current *Message // which the loop has
	held    int      // octets in queue
	ctx     context.Context
	aside   bool // the reading goroutine must not wait for the loop
	left    bool // the loop has ended
	over    bool // no more comes
	err     error
	file    spool
}

// Fetch fetches messages. They are yielded as they come, and so are their bodies: whatever
// the size of a message, it takes some KiB of memory. A message has all that was asked for
// except its bodies, which Message.Next gives. What is fetched is valid until the loop goes on.
//
// The loop may use the Client: what of the fetch stands in the way of the answer is then put
// aside, messages in memory and bodies in a temporary file. A loop that ends early has the
// rest passed over when it comes, which may be much; Close is then cheaper.
//
// An error is yielded last; messages before it are good.
func (c *Client) Fetch(ctx context.Context, set Set, what FetchItems) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		if err := c.checkFetch(ctx, set, &what); err != nil {
			yield(nil, err)
			return
		}
		f := &fetching{set: set, asked: what.mask(), ctx: ctx, file: spool{dir: c.opt.SpoolDir}}
		f.change = sync.NewCond(&f.mu)
		cmd := set.command("FETCH")
		cmd.fetch, cmd.keepsSeq, cmd.take = f, set.seq, f.take
		stop := context.AfterFunc(ctx, f.wake)
		defer stop()
		defer f.leave()
		err := c.start(ctx, cmd, func(w *writer) { what.write(w, set) })
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			r, err := f.next()
			if err == io.EOF {
				err = c.wait(ctx, cmd)
				if err == nil {
					return
				}
			}
			switch r := r.(type) {
			case *vanished:
				if what.Vanished != nil {
					what.Vanished(r.uids)
				}
				continue
			case *Message:
				if !yield(r, nil) {
					return
				}
				continue
			}
			yield(nil, err)
			return
		}
	}
}

func (c *Client) checkFetch(ctx context.Context, set Set, what *FetchItems) error {
	if err := set.check(); err != nil {
		return err
	}
	binary := len(what.BinarySizes) > 0
	for i := range what.Sections {
		if err := what.Sections[i].check(); err != nil {
			return err
		}
		binary = binary || what.Sections[i].Binary
	}
	if err := what.Partial.check(); err != nil {
		return err
	}
	if what.Vanished != nil && (what.ChangedSince == 0 || set.seq || !c.Enabled("QRESYNC")) {
		return fmt.Errorf("%w: Vanished needs ChangedSince, UIDs, and QRESYNC enabled", ErrArgument)
	}
	for _, need := range []struct {
		on  bool
		cap string
	}{
		{binary, "BINARY"}, {what.SaveDate, "SAVEDATE"}, {what.EmailID || what.ThreadID, "OBJECTID"},
		{what.Preview, "PREVIEW"}, {what.Partial != Partial{}, "PARTIAL"},
	} {
		if need.on {
			if err := c.need(ctx, need.cap); err != nil {
				return err
			}
		}
	}
	if what.ModSeq || what.ChangedSince > 0 {
		return c.need(ctx, "CONDSTORE", "QRESYNC")
	}
	return nil
}

// words are the items with their names.
func (what *FetchItems) words() []struct {
	on   bool
	item items
	word string
} {
	return []struct {
		on   bool
		item items
		word string
	}{
		{what.Flags, hasFlags, "FLAGS"}, {what.InternalDate, hasDate, "INTERNALDATE"}, {what.Size, hasSize, "RFC822.SIZE"},
		{what.ModSeq, hasModSeq, "MODSEQ"}, {what.Envelope, hasEnvelope, "ENVELOPE"}, {what.Structure, hasStructure, "BODYSTRUCTURE"},
		{what.SaveDate, hasSaveDate, "SAVEDATE"}, {what.EmailID, hasEmailID, "EMAILID"}, {what.ThreadID, hasThreadID, "THREADID"},
		{what.Preview && !what.PreviewLazy, hasPreview, "PREVIEW"}, {what.Preview && what.PreviewLazy, hasPreview, "PREVIEW (LAZY)"},
	}
}

func (what *FetchItems) mask() items {
	m := hasUID
	for _, w := range what.words() {
		if w.on {
			m |= w.item
		}
	}
	if len(what.Sections) > 0 {
		m |= hasBody
	}
	if len(what.BinarySizes) > 0 {
		m |= hasBinarySize
	}
	return m
}

// write writes the arguments. Sections come last, so that a server that answers in this order
// has told all else when it comes to them.
func (what *FetchItems) write(w *writer, set Set) {
	w.sp().raw(set.text)
	w.raw(" (UID")
	for _, item := range what.words() {
		if item.on {
			w.sp().raw(item.word)
		}
	}
	for _, part := range what.BinarySizes {
		w.raw(" BINARY.SIZE[" + path(part) + "]")
	}
	for i := range what.Sections {
		w.sp()
		what.Sections[i].write(w)
	}
	w.raw(")")
	sep := " ("
	modifier := func(on bool, text string) {
		if on {
			w.raw(sep + text)
			sep = " "
		}
	}
	modifier(what.ChangedSince > 0, "CHANGEDSINCE "+modValue(what.ChangedSince))
	modifier(what.Vanished != nil, "VANISHED")
	modifier(what.Partial != Partial{}, "PARTIAL "+what.Partial.String())
	if sep == " " {
		w.raw(")")
	}
}
