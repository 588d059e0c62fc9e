package imapclient

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// Listing is a mailbox as LIST shows it (RFC 9051, 7.3.1).
type Listing struct {
	Mailbox string // UTF-8, with the server's own delimiter between levels
	Delim   string // empty: there are no levels
	Attrs   []string

	ChildInfo []string          // which selection matches below it (RFC 5258, 3.5)
	OldName   string            // before a rename (RFC 9051, 6.3.9.7)
	Status    *MailboxStatus    // where asked for (RFC 5819)
	MyRights  string            // where asked for (RFC 8440)
	Metadata  map[string]string // where asked for (RFC 9590)
}

// Has reports whether l has an attribute, such as "\Noselect".
func (l *Listing) Has(attr string) bool {
	return slices.ContainsFunc(l.Attrs, func(a string) bool { return strings.EqualFold(a, attr) })
}

// SpecialUse returns what the mailbox is meant for (RFC 6154), empty when nothing is said.
func (l *Listing) SpecialUse() imap.SpecialUse {
	for _, use := range []imap.SpecialUse{imap.UseAll, imap.UseArchive, imap.UseDrafts, imap.UseFlagged, imap.UseJunk, imap.UseSent, imap.UseTrash, imap.UseImportant} {
		if l.Has(string(use)) {
			return use
		}
	}
	return ""
}

// ListOptions are the optional parts of List. Those that the server has no extension for are
// ErrNoCapability.
type ListOptions struct {
	Reference string

	// What to list (RFC 5258, 3.1; RFC 6154, 5.2). All of them must hold; Recursive also
	// lists those above them.
	Subscribed, Remote, SpecialUse, Recursive bool

	// What to tell of each (RFC 5258, 3.2; RFC 6154; RFC 5819; RFC 8440; RFC 9590).
	ReturnSubscribed, ReturnChildren, ReturnSpecialUse, ReturnMyRights bool
	ReturnStatus                                                       []StatusItem
	ReturnMetadata                                                     []string
}

func (o *ListOptions) selection() (words []string) {
	for _, w := range []struct {
		on   bool
		word string
	}{{o.Subscribed, "SUBSCRIBED"}, {o.Remote, "REMOTE"}, {o.SpecialUse, "SPECIAL-USE"}, {o.Recursive, "RECURSIVEMATCH"}} {
		if w.on {
			words = append(words, w.word)
		}
	}
	return words
}

// List lists the mailboxes that match one of the patterns, where "*" stands for anything and
// "%" for anything within a level. No pattern means "*". The answer is gathered before the
// first is yielded, so that the loop may use the Client.
func (c *Client) List(ctx context.Context, opts *ListOptions, patterns ...string) iter.Seq2[*Listing, error] {
	return func(yield func(*Listing, error) bool) {
		list, err := c.list(ctx, opts, patterns)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, l := range list {
			if !yield(l, nil) {
				return
			}
		}
	}
}

func (c *Client) list(ctx context.Context, opts *ListOptions, patterns []string) ([]*Listing, error) {
	if opts == nil {
		opts = new(ListOptions)
	}
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	for _, need := range []struct {
		on  bool
		cap string
	}{
		{opts.Subscribed || opts.Remote || opts.Recursive || opts.ReturnSubscribed || len(patterns) > 1, "LIST-EXTENDED"},
		{opts.SpecialUse || opts.ReturnSpecialUse, "SPECIAL-USE"},
		{opts.ReturnMyRights, "LIST-MYRIGHTS"},
		{len(opts.ReturnStatus) > 0, "LIST-STATUS"},
		{len(opts.ReturnMetadata) > 0, "LIST-METADATA"},
	} {
		if need.on {
			if err := c.need(ctx, need.cap); err != nil {
				return nil, err
			}
		}
	}
	extended, err := c.Has(ctx, "LIST-EXTENDED")
	if err != nil {
		return nil, err
	}
	var list []*Listing
	byName := make(map[string]*Listing)
	cmd := &command{name: "LIST", take: func(r any) bool {
		switch r := r.(type) {
		case *Listing:
			list = append(list, r)
			byName[r.Mailbox] = r
			return true
		case *MailboxStatus:
			if l := byName[r.Mailbox]; l != nil && len(opts.ReturnStatus) > 0 {
				l.Status = r
				return true
			}
		case *rights:
			if l := byName[r.mailbox]; l != nil && opts.ReturnMyRights {
				l.MyRights = r.rights
				return true
			}
		case *metadataResponse:
			if l := byName[r.mailbox]; l != nil && len(opts.ReturnMetadata) > 0 {
				if l.Metadata == nil {
					l.Metadata = make(map[string]string)
				}
				for k, v := range r.values {
					if v != nil {
						l.Metadata[k] = *v
					}
				}
				return true
			}
		}
		return false
	}}
	_, err = c.run(ctx, cmd, func(w *writer) {
		if s := opts.selection(); len(s) > 0 {
			w.raw(" (" + strings.Join(s, " ") + ")")
		}
		w.sp().mailbox(opts.Reference).sp()
		if len(patterns) == 1 {
			w.pattern(patterns[0])
		} else {
			w.list(patterns, func(p string) { w.pattern(p) })
		}
		if extended || len(opts.ReturnStatus) > 0 || opts.ReturnSpecialUse {
			opts.writeReturn(w, extended)
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (o *ListOptions) writeReturn(w *writer, extended bool) {
	sep := " RETURN ("
	word := func(on bool, word string) bool {
		if on {
			w.raw(sep + word)
			sep = " "
		}
		return on
	}
	word(o.ReturnSubscribed, "SUBSCRIBED")
	word(o.ReturnChildren && extended, "CHILDREN")
	word(o.ReturnSpecialUse, "SPECIAL-USE")
	word(o.ReturnMyRights, "MYRIGHTS")
	if word(len(o.ReturnStatus) > 0, "STATUS ") {
		w.raw(statusItems(o.ReturnStatus))
	}
	if word(len(o.ReturnMetadata) > 0, "METADATA ") {
		w.astrings(o.ReturnMetadata)
	}
	if sep == " " {
		w.raw(")")
	}
}

// pattern writes a pattern, of which no "%" or "*" is encoded.
func (w *writer) pattern(p string) *writer { return w.str(w.c.encodeName(p)) }

// Lsub lists the subscribed names that match (RFC 3501, 6.3.9): for servers without
// LIST-EXTENDED.
func (c *Client) Lsub(ctx context.Context, reference, pattern string) ([]*Listing, error) {
	var list []*Listing
	cmd := &command{name: "LSUB", take: func(r any) bool {
		l, ok := r.(*lsub)
		if ok {
			list = append(list, (*Listing)(l))
		}
		return ok
	}}
	_, err := c.run(ctx, cmd, func(w *writer) { w.sp().mailbox(reference).sp().pattern(pattern) })
	if err != nil {
		return nil, err
	}
	return list, nil
}

func takeListing(c *Client, d *wire.Decoder) *Listing {
	l := new(Listing)
	d.SP()
	for _, f := range takeFlags(d) {
		l.Attrs = append(l.Attrs, string(f))
	}
	d.SP()
	l.Delim = nstring(d)
	d.SP()
	l.Mailbox = takeName(c, d)
	if !d.Accept(' ') {
		return l
	}
	d.List(func() {
		item := strings.ToUpper(d.AString())
		d.SP()
		switch item {
		case "CHILDINFO":
			l.ChildInfo = takeStrings(d)
		case "OLDNAME":
			d.List(func() { l.OldName = takeName(c, d) })
		default:
			skipValue(d)
		}
	})
	return l
}

// StatusItem is what STATUS can tell of a mailbox.
type StatusItem string

// The items of RFC 9051, 6.3.11, RFC 3501, 7162, 7889, 8474 and 9208.
const (
	StatusMessages       StatusItem = "MESSAGES"
	StatusRecent         StatusItem = "RECENT"
	StatusUnseen         StatusItem = "UNSEEN"
	StatusDeleted        StatusItem = "DELETED"
	StatusUIDNext        StatusItem = "UIDNEXT"
	StatusUIDValidity    StatusItem = "UIDVALIDITY"
	StatusSize           StatusItem = "SIZE"
	StatusHighestModSeq  StatusItem = "HIGHESTMODSEQ"
	StatusMailboxID      StatusItem = "MAILBOXID"
	StatusAppendLimit    StatusItem = "APPENDLIMIT"
	StatusDeletedStorage StatusItem = "DELETED-STORAGE"
)

func statusItems(items []StatusItem) string {
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = string(item)
	}
	return "(" + strings.Join(words, " ") + ")"
}

// MailboxStatus is what STATUS tells: what was not asked for is zero.
type MailboxStatus struct {
	Mailbox                           string
	Messages, Recent, Unseen, Deleted uint32
	UIDNext                           imap.UID
	UIDValidity                       uint32
	Size, DeletedStorage              uint64 // octets
	HighestModSeq                     imap.ModSeq
	MailboxID                         string
	AppendLimit                       int64 // octets; -1: the server has none
}

// Status asks for counts of a mailbox that need not be selected.
func (c *Client) Status(ctx context.Context, mailbox string, items ...StatusItem) (*MailboxStatus, error) {
	if len(items) == 0 {
		items = []StatusItem{StatusMessages, StatusUnseen, StatusUIDNext, StatusUIDValidity}
	}
	for _, item := range items {
		if err := checkAtoms(string(item)); err != nil {
			return nil, err
		}
	}
	// With NOTIFY counts of other mailboxes may come between.
	others, err := c.Has(ctx, "NOTIFY")
	if err != nil {
		return nil, err
	}
	name := mailbox
	if strings.EqualFold(name, imap.Inbox) {
		name = imap.Inbox
	}
	var got *MailboxStatus
	cmd := &command{name: "STATUS", take: func(r any) bool {
		s, ok := r.(*MailboxStatus)
		if ok = ok && (!others || s.Mailbox == name); ok {
			got = s
		}
		return ok
	}}
	_, err = c.run(ctx, cmd, func(w *writer) {
		w.sp().mailbox(mailbox).sp().raw(statusItems(items))
	})
	if err == nil && got == nil {
		err = fmt.Errorf("%w: no answer to STATUS", ErrProtocol)
	}
	if err != nil {
		return nil, err
	}
	return got, nil
}

func takeMailboxStatus(c *Client, d *wire.Decoder) *MailboxStatus {
	s := new(MailboxStatus)
	d.SP()
	s.Mailbox = takeName(c, d)
	d.SP()
	d.Expect('(')
	for d.OK() && !d.Accept(')') {
		if d.Accept(' ') {
			continue
		}
		item := StatusItem(d.Word())
		d.SP()
		switch item {
		case StatusMessages:
			s.Messages = d.Number()
		case StatusRecent:
			s.Recent = d.Number()
		case StatusUnseen:
			s.Unseen = d.Number()
		case StatusDeleted:
			s.Deleted = d.Number()
		case StatusUIDNext:
			s.UIDNext = imap.UID(d.Number())
		case StatusUIDValidity:
			s.UIDValidity = d.Number()
		case StatusSize:
			s.Size = d.Number64()
		case StatusDeletedStorage:
			s.DeletedStorage = d.Number64()
		case StatusHighestModSeq:
			s.HighestModSeq = imap.ModSeq(d.Number64())
		case StatusMailboxID:
			d.List(func() { s.MailboxID = d.AString() })
		case StatusAppendLimit:
			if s.AppendLimit = -1; !d.AcceptWord("NIL") {
				s.AppendLimit = int64(d.Number64())
			}
		default:
			skipValue(d)
		}
	}
	return s
}

// named runs a command whose one argument is a mailbox.
func (c *Client) named(ctx context.Context, name, mailbox string) error {
	_, err := c.run(ctx, &command{name: name}, func(w *writer) { w.sp().mailbox(mailbox) })
	return err
}

// Create makes a mailbox and returns its id where the server keeps ids (RFC 8474, 4.1). A nil
// CreateOptions means defaults. A special use needs CREATE-SPECIAL-USE (RFC 6154).
func (c *Client) Create(ctx context.Context, mailbox string, opts *imap.CreateOptions) (id string, err error) {
	use := ""
	if opts != nil && opts.SpecialUse != "" {
		use = string(opts.SpecialUse)
		if err := c.need(ctx, "CREATE-SPECIAL-USE"); err != nil {
			return "", err
		}
		if err := checkAtoms(use); err != nil {
			return "", err
		}
	}
	s, err := c.run(ctx, &command{name: "CREATE"}, func(w *writer) {
		if w.sp().mailbox(mailbox); use != "" {
			w.raw(" (USE (" + use + "))")
		}
	})
	if err != nil {
		return "", err
	}
	if s.Code == "MAILBOXID" {
		id = strings.Join(s.words(), " ")
	}
	return id, nil
}

// Delete removes a mailbox with its messages.
func (c *Client) Delete(ctx context.Context, mailbox string) error {
	return c.named(ctx, "DELETE", mailbox)
}

// Rename gives a mailbox, and those below it, another name.
func (c *Client) Rename(ctx context.Context, old, new string) error {
	_, err := c.run(ctx, &command{name: "RENAME"}, func(w *writer) { w.sp().mailbox(old).sp().mailbox(new) })
	return err
}

// Subscribe sets or clears a name's subscription.
func (c *Client) Subscribe(ctx context.Context, mailbox string, on bool) error {
	if on {
		return c.named(ctx, "SUBSCRIBE", mailbox)
	}
	return c.named(ctx, "UNSUBSCRIBE", mailbox)
}
