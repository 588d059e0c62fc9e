package imapclient

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/mailblocks/mailblocks/imap"
)

// SelectOptions are the optional parts of Select.
type SelectOptions struct {
	ReadOnly bool // EXAMINE

	// CondStore asks for mod-sequences (RFC 7162, 3.1.8).
	CondStore bool

	// QResync asks what changed since then, in the same round trip (RFC 7162, 3.2.5). QRESYNC
	// must have been enabled.
	QResync *QResync
}

// QResync is what a client knows of a mailbox (RFC 7162, 3.2.5).
type QResync struct {
	UIDValidity uint32
	ModSeq      imap.ModSeq // of the last synchronisation; not zero
	Known       imap.UIDSet // UIDs to be told about; empty: all
	// SeqMatch pairs some sequence numbers with the UIDs they had, ascending (RFC 7162,
	// 3.2.5.2): it spares a server with a short memory a long answer. Often empty.
	SeqMatch []SeqUID
}

// SeqUID is a message by both its numbers.
type SeqUID struct {
	Seq imap.SeqNum
	UID imap.UID
}

// Selected is what SELECT and EXAMINE tell of a mailbox (RFC 9051, 6.3.2).
type Selected struct {
	Mailbox        string
	ReadOnly       bool
	Messages       uint32
	Recent         uint32      // IMAP4rev1 only
	FirstUnseen    imap.SeqNum // IMAP4rev1 only; zero: none, or not told
	UIDValidity    uint32
	UIDNext        imap.UID // zero: not told
	UIDNotSticky   bool     // UIDs are gone with the session
	HighestModSeq  imap.ModSeq
	NoModSeq       bool        // the mailbox keeps no mod-sequences (RFC 7162, 3.1.2.2)
	Flags          []imap.Flag // in use
	PermanentFlags []imap.Flag // that can be changed for good; with \* new ones can be made
	MailboxID      string

	// With QResync: the messages that went, and those whose flags changed or that are new.
	Vanished imap.UIDSet
	Changed  []*Message
}

// Select opens a mailbox, and closes without expunging the one that was selected. A nil
// SelectOptions means defaults. When it fails, no mailbox is selected.
func (c *Client) Select(ctx context.Context, mailbox string, opts *SelectOptions) (*Selected, error) {
	if opts == nil {
		opts = new(SelectOptions)
	}
	if opts.CondStore || opts.QResync != nil {
		if err := c.need(ctx, "CONDSTORE", "QRESYNC"); err != nil {
			return nil, err
		}
	}
	if q := opts.QResync; q != nil {
		if !c.Enabled("QRESYNC") {
			return nil, fmt.Errorf("%w: QRESYNC is not enabled", ErrNoCapability)
		}
		if q.ModSeq == 0 || q.UIDValidity == 0 {
			return nil, fmt.Errorf("%w: QRESYNC since zero", ErrArgument)
		}
	}
	s := &Selected{Mailbox: mailbox, ReadOnly: opts.ReadOnly}
	name := "SELECT"
	if opts.ReadOnly {
		name = "EXAMINE"
	}
	cmd := &command{name: name, alone: true, take: func(r any) bool {
		if _, ok := r.(*Message); ok && opts.QResync == nil {
			return false
		}
		return s.take(r)
	}}
	cmd.success = func() {
		if cmd.status.Code == "READ-ONLY" {
			s.ReadOnly = true
		}
		now := *s
		now.Vanished, now.Changed = nil, nil
		c.mu.Lock()
		c.selected = &now
		c.mu.Unlock()
		c.enter(InMailbox)
	}
	_, err := c.run(ctx, cmd, func(w *writer) {
		c.deselect() // whether it succeeds or not
		w.sp().mailbox(mailbox)
		switch {
		case opts.QResync != nil:
			w.raw(" (")
			opts.QResync.write(w)
			w.raw(")")
		case opts.CondStore:
			w.raw(" (CONDSTORE)")
		}
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (q *QResync) write(w *writer) {
	w.raw("QRESYNC (").num(uint64(q.UIDValidity)).sp().num(uint64(q.ModSeq))
	if len(q.Known) > 0 {
		w.sp().raw(q.Known.String())
	}
	if len(q.SeqMatch) > 0 {
		// The two sets must be equally long, so that pairs are found again in ranges.
		w.raw(" (")
		for i, m := range q.SeqMatch {
			w.raw(comma(i)).num(uint64(m.Seq))
		}
		w.sp()
		for i, m := range q.SeqMatch {
			w.raw(comma(i)).num(uint64(m.UID))
		}
		w.raw(")")
	}
	w.raw(")")
}

func comma(i int) string {
	if i > 0 {
		return ","
	}
	return ""
}

// take takes what is told between SELECT and its end.
func (s *Selected) take(r any) bool {
	switch r := r.(type) {
	case exists:
		s.Messages = uint32(r)
	case recent:
		s.Recent = uint32(r)
	case flagList:
		s.Flags = r
	case *vanished:
		s.Vanished = s.Vanished.Union(r.uids)
	case *Message:
		s.Changed = append(s.Changed, r)
	case *Listing: // IMAP4rev2 tells the name
	case *Status:
		switch r.Code {
		case "UNSEEN":
			s.FirstUnseen = imap.SeqNum(r.Num())
		case "UIDVALIDITY":
			s.UIDValidity = uint32(r.Num())
		case "UIDNEXT":
			s.UIDNext = imap.UID(r.Num())
		case "HIGHESTMODSEQ":
			s.HighestModSeq = parseMod(r.Arg)
		case "NOMODSEQ":
			s.NoModSeq = true
		case "UIDNOTSTICKY":
			s.UIDNotSticky = true
		case "MAILBOXID":
			s.MailboxID = r.Arg
			if w := r.words(); len(w) == 1 {
				s.MailboxID = w[0]
			}
		case "PERMANENTFLAGS":
			s.PermanentFlags = []imap.Flag{}
			for _, f := range r.words() {
				s.PermanentFlags = append(s.PermanentFlags, imap.Flag(f))
			}
		case "CLOSED":
		default:
			return r.Kind == "OK" && r.Code == ""
		}
	default:
		return false
	}
	return true
}

// CloseMailbox closes the mailbox and expunges its messages with \Deleted, without telling
// which, unless it was opened read-only (CLOSE).
func (c *Client) CloseMailbox(ctx context.Context) error { return c.leave(ctx, "CLOSE") }

// Unselect closes the mailbox and expunges nothing. A server without UNSELECT is made to do
// the same in another way.
func (c *Client) Unselect(ctx context.Context) error {
	err := c.need(ctx, "UNSELECT")
	if err == nil {
		return c.leave(ctx, "UNSELECT")
	}
	name, _, ok := c.Selected()
	if !ok || !errors.Is(err, ErrNoCapability) {
		return err
	}
	// What is opened read-only can be closed without loss.
	if _, err := c.Select(ctx, name, &SelectOptions{ReadOnly: true}); err != nil {
		return err
	}
	return c.leave(ctx, "CLOSE")
}

func (c *Client) leave(ctx context.Context, name string) error {
	cmd := &command{name: name, alone: true, success: c.deselect}
	_, err := c.run(ctx, cmd, nil)
	return err
}

// A Set names messages of the selected mailbox: by UID, by sequence number, or as the result
// of a search that was saved.
type Set struct {
	text string
	seq  bool
	nums imap.NumSet[uint32] // nil where "*" or "$" is in it
}

// UIDs names messages by UID.
func UIDs(set imap.UIDSet) Set { return Set{text: set.String(), nums: plain(set)} }

// Seqs names messages by sequence number. Numbers change when messages are expunged, which a
// client that pipelines must keep track of; UIDs stay.
func Seqs(set imap.SeqSet) Set { return Set{text: set.String(), seq: true, nums: plain(set)} }

// All names all messages, by UID.
func All() Set { return UIDSpec(imap.SetSpec{{First: 1}}) }

// UIDSpec names messages by UID, with zero for the last one.
func UIDSpec(spec imap.SetSpec) Set { return Set{text: spec.String()} }

// SeqSpec names messages by sequence number, with zero for the last one.
func SeqSpec(spec imap.SetSpec) Set { return Set{text: spec.String(), seq: true} }

// Saved names the result of the last search with SearchOptions.Save (RFC 5182), by UID.
func Saved() Set { return Set{text: "$"} }

func plain[T ~uint32](set imap.NumSet[T]) imap.NumSet[uint32] {
	nums := make(imap.NumSet[uint32], len(set))
	for i, r := range set {
		nums[i] = imap.Range[uint32]{First: uint32(r.First), Last: uint32(r.Last)}
	}
	return nums
}

// check returns an error for the empty set, which no command can carry.
func (s Set) check() error {
	if s.text == "" {
		return fmt.Errorf("%w: an empty set of messages", ErrArgument)
	}
	return nil
}

// covers reports whether a message can be one of the set. Where "*" or "$" is in it that is
// not known here.
func (s Set) covers(m *Message) bool {
	n := uint32(m.UID)
	if s.seq {
		n = uint32(m.Seq)
	}
	return s.nums == nil || n == 0 || s.nums.Contains(n)
}

// command names a command on the set: "UID COPY" or "COPY".
func (s Set) command(name string) *command {
	if s.seq {
		return &command{name: name, seq: true}
	}
	return &command{name: "UID " + name}
}

// modValue writes a mod-sequence of a modifier.
func modValue(m imap.ModSeq) string { return strconv.FormatUint(uint64(m), 10) }
