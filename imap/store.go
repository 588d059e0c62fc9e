package imap

import (
	"context"
	"io"
	"iter"
	"time"
)

// Inbox is the name of the mailbox that every Store has (RFC 9051, 5.1). Servers fold its
// case before they ask; stores see exactly this spelling.
const Inbox = "INBOX"

// A Store holds one user's mail: a tree of named mailboxes.
//
// Names are UTF-8 with "/" between levels and no empty level; they are never patterns, and
// only Inbox is special. A level above a mailbox need not be a mailbox itself: it is then
// listed with NoSelect. A name that the store cannot keep, or that CheckName refuses, is
// ErrBadName.
//
// All methods are safe for concurrent use. Several Stores, in one process or in several,
// may stand on the same storage at once.
//
// A Store may do more: Quotas, Annotations, Rights, StoreWatcher. UpgradeStore finds that.
type Store interface {
	// Mailboxes yields every mailbox, in no particular order, each name once. A mailbox
	// that cannot be read is yielded with its name and an error, and the listing goes on.
	// A subscribed name without a mailbox is yielded with NonExistent.
	Mailboxes(ctx context.Context) iter.Seq2[MailboxInfo, error]

	// Open returns a handle on the mailbox. ErrNoMailbox, ErrNotSelectable. The Inbox
	// always opens, made at need.
	Open(ctx context.Context, name string) (Mailbox, error)

	// Create makes a mailbox with a UIDVALIDITY that no earlier mailbox of this name had
	// (RFC 9051, 6.3.4). A name that is only a level so far becomes selectable.
	// ErrMailboxExists, ErrBadName. A nil CreateOptions means defaults.
	Create(ctx context.Context, name string, opts *CreateOptions) error

	// Delete removes the mailbox and its messages, not its children and not its
	// subscription (RFC 9051, 6.3.5). ErrNoMailbox; ErrHasChildren when it is only a level
	// above others. Handles open on it report ErrNoMailbox from then on.
	Delete(ctx context.Context, name string) error

	// Rename gives the mailbox and all its children new names; UIDs, UIDVALIDITY and ids
	// stay (RFC 9051, 6.3.6). Renaming the Inbox moves its messages to a new mailbox and
	// leaves the Inbox empty and its children alone. ErrNoMailbox, ErrMailboxExists (also
	// for a level), ErrBadName for a place below itself. Subscriptions stay with the names.
	// A handle open on a renamed mailbox follows it, or reports ErrNoMailbox.
	Rename(ctx context.Context, old, new string) error

	// Subscribe sets or clears the name's subscription, which needs no mailbox
	// (RFC 9051, 6.3.7) and survives its deletion. Repeating it changes nothing.
	Subscribe(ctx context.Context, name string, on bool) error

	// Close releases what the Store holds. Its Mailboxes must be closed first.
	Close() error
}

// MailboxInfo is a mailbox as a listing shows it.
type MailboxInfo struct {
	Name        string
	ID          string     // survives a rename, never reused (RFC 8474, 4); empty for a level without messages
	SpecialUse  SpecialUse // zero: none
	NoSelect    bool       // a level of the hierarchy without messages
	NonExistent bool       // subscribed, but gone; implies NoSelect
	NoInferiors bool       // can never have children
	Subscribed  bool
}

// SpecialUse is the use a mailbox is meant for (RFC 6154, 2), as its LIST attribute.
type SpecialUse string

// The uses of RFC 6154, 2 and RFC 8457, 3.
const (
	UseAll       SpecialUse = `\All`
	UseArchive   SpecialUse = `\Archive`
	UseDrafts    SpecialUse = `\Drafts`
	UseFlagged   SpecialUse = `\Flagged`
	UseJunk      SpecialUse = `\Junk`
	UseSent      SpecialUse = `\Sent`
	UseTrash     SpecialUse = `\Trash`
	UseImportant SpecialUse = `\Important`
)

// CreateOptions are the optional parts of Store.Create.
type CreateOptions struct {
	SpecialUse SpecialUse
}

// ModSeq numbers the changes of one mailbox: 63 bits, rising with every visible change
// (RFC 7162, 3.1). Zero comes before any change.
type ModSeq uint64

// A Mailbox is a handle on one mailbox. Messages are addressed by UID alone: sequence
// numbers, FETCH, SEARCH and the rest are made above this contract, once, from Changes.
//
// It is safe for concurrent use. Several handles, in one process or in several, may be open
// on the same mailbox, and each sees what the others did with its next State or Changes.
// UIDs are never reused, rise in order of arrival, and survive reopening; ModSeq rises with
// every change that a client could see. Both hold when two processes write at once.
//
// A method that fails changes nothing, unless its comment says otherwise. When the mailbox
// was deleted underneath, every method reports ErrNoMailbox.
type Mailbox interface {
	// State returns the mailbox's counts. Its cost does not grow with the mailbox.
	State(ctx context.Context) (State, error)

	// Changes returns one consistent view of what happened after since: it is the only
	// source of the views that servers build. Since 0 gives everything. ErrTooOld: the
	// store no longer knows which messages went away that long ago; ask again with 0.
	// A since that lies ahead of HighestModSeq gives nothing.
	Changes(ctx context.Context, since ModSeq) (Delta, error)

	// Watch calls wake when the mailbox may have changed, by this or another handle or
	// process, until ctx ends; it then returns ctx's error. A wake is a hint without data:
	// it may come early, late, twice or for nothing, and a lost one costs time, not truth.
	// One comes when Watch has begun: what happens before it is for the caller to look at.
	// Wake must not block and must not call the Mailbox.
	Watch(ctx context.Context, wake func()) error

	// Body opens the message's octets, exactly as BODY[] gives them: lines end in CRLF.
	// ErrExpunged: it is gone.
	Body(ctx context.Context, uid UID) (Body, error)

	// Append stores the messages, all or none, and gives them ascending UIDs in their
	// order. When it returns nil they survive a power cut; until then no reader sees any
	// of them. Each NewMessage is read to its end once. ErrOverQuota, ErrTooBig.
	Append(ctx context.Context, msgs []NewMessage) (AppendResult, error)

	// SetFlags applies op to the messages of set that are there; others are passed over.
	// When unchangedSince is not zero, messages with a greater ModSeq are left alone and
	// returned as conflict (RFC 7162, 3.1.3), each decided atomically. A message that op
	// does not change keeps its ModSeq.
	SetFlags(ctx context.Context, set UIDSet, op FlagOp, unchangedSince ModSeq) (conflict UIDSet, err error)

	// Expunge removes the messages of set for good; when onlyDeleted, those that have
	// \Deleted at that very moment. UIDs that are not there are passed over.
	Expunge(ctx context.Context, set UIDSet, onlyDeleted bool) error

	// Copy puts copies of the messages of set, with flags and internal date, into the
	// mailbox dst of the same store, all or none, durable when it returns. When move, the
	// originals are gone in the same step, or, where a store cannot do that at once, after
	// it: a crash between leaves both, never neither. Dst may be this very mailbox.
	// ErrNoMailbox: no dst, or it cannot hold messages.
	Copy(ctx context.Context, set UIDSet, dst string, move bool) (Copied, error)

	// Close releases the handle. Bodies opened from it stay readable until closed.
	Close() error
}

// State is a mailbox at one moment.
type State struct {
	ID            string // MailboxInfo.ID: handles with the same one share what is known of the mailbox
	UIDValidity   uint32 // changes only when UIDs were lost (RFC 9051, 2.3.1.1)
	UIDNext       UID    // lower than any UID to come, greater than any there
	HighestModSeq ModSeq
	Messages      uint32
	Unseen        uint32 // messages without \Seen
	Deleted       uint32 // messages with \Deleted
	Size          int64  // octets of all messages
	Keywords      []string
	ReadOnly      bool
	NoNewKeywords bool // PERMANENTFLAGS without \*
}

// Message is what a mailbox knows of a message without opening its body.
type Message struct {
	UID          UID
	ModSeq       ModSeq
	Flags        Flags
	InternalDate time.Time // to the second, with the zone it was given in where the store keeps it
	SaveDate     time.Time // when it came into this mailbox (RFC 8514); zero: not known
	Size         int64     // octets of the body with CRLF line ends: RFC822.SIZE
	ID           string    // of the content, the same for copies (RFC 8474, 5.1); empty: none
	ThreadID     string    // of the messages that belong together (RFC 8474, 5.2); empty: none
}

// Delta is what happened in a mailbox after a ModSeq, as of State.
type Delta struct {
	State State
	// Messages yields the messages that are there and came or changed after since, by
	// ascending UID. It may be ranged over once, and shows the mailbox as of State
	// whatever happens meanwhile. An error ends it.
	Messages iter.Seq2[Message, error]
	// Gone holds the UIDs expunged after since. It may hold UIDs that the caller never
	// knew; it never holds one that is there.
	Gone UIDSet
}

// A Body is one message's octets. It stays readable after the message is expunged and
// costs no memory that grows with its size.
type Body interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// NewMessage is a message to append.
type NewMessage struct {
	Flags        Flags
	InternalDate time.Time // zero: now
	Body         io.Reader // lines end in CRLF; read until io.EOF
	Size         int64     // octets in Body when known, else 0: a hint
	ID           string    // see Message.ID; empty: the store makes one, if it keeps them
}

// AppendResult tells where messages were stored: for APPENDUID (RFC 4315, 3).
type AppendResult struct {
	UIDValidity uint32
	UIDs        []UID // one for each message, ascending
}

// Copied tells what Copy did: for COPYUID (RFC 4315, 3). From and To have the same length;
// the message From[i] became To[i]. Both are empty when no message of the set was there.
type Copied struct {
	UIDValidity uint32 // of the destination
	From, To    []UID
}
