package queue

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// A Store keeps messages until they are settled. It is safe for concurrent use.
// Several Runners, in one process or (where the store says so) on several nodes, may work on
// one Store; package queuetest holds the suite that every implementation passes.
//
// The unit of work is an item: one message's recipients on one route. A message with
// recipients on three routes is three items that are leased, held and retried on their own.
type Store interface {
	// Enqueue takes responsibility for the messages: when it returns nil they are on stable
	// storage, all of them; when it fails none is in the queue. Parallel calls
	// share the cost of a sync. The IDs are in the order of the messages. It fills in what an
	// Envelope leaves open: Arrived, and each recipient's Route and Due (HoldUntil or now).
	// Errors: ErrNoRecipients, that of a Body, or the store's own.
	Enqueue(ctx context.Context, msgs ...Message) ([]ID, error)

	// Lease gives out due items as w asks, each to one caller: until the lease ends nobody
	// else gets the item. It does not wait; nothing due gives an empty slice.
	// A lease that ended without Settle leaves the item as it was, due at once.
	Lease(ctx context.Context, w Want) ([]Lease, error)

	// Renew makes the lease last for d from now. ErrStale: it is not held any more.
	Renew(ctx context.Context, t Token, d time.Duration) error

	// Settle ends a lease: it stores the new state of the recipients, enqueues the reports and
	// removes the message when none of its recipients is pending, all in one commit.
	// It returns the IDs of the reports. ErrStale: the lease ended or the item is gone;
	// nothing was changed.
	Settle(ctx context.Context, t Token, s Settlement) ([]ID, error)

	// Open opens a message's body for reading. ErrNotFound: no such message. The reader stays
	// valid when the message is settled meanwhile.
	Open(ctx context.Context, id ID) (io.ReadSeekCloser, error)

	// List yields the messages that f selects, in no promised order, each as it was at some
	// moment of the iteration. An Entry may be kept by the caller.
	List(ctx context.Context, f Filter) iter.Seq2[*Entry, error]

	// Alter applies c to every item that f selects and returns how many it changed.
	Alter(ctx context.Context, f Filter, c Change) (int, error)

	// Wake waits until there may be work that was not there before: since the call of Wake that
	// returned the mark seen, something was enqueued, released, kicked or given back, or
	// an item that waited for its time has become due, or until has come. It returns the mark to pass
	// next time. It may return early; it never misses work. The first call passes 0.
	// Several callers may wait at once and each is woken. A store shared by nodes may learn of
	// other nodes' work by polling.
	Wake(ctx context.Context, seen Mark, until time.Time) (Mark, error)

	// Close ends the use of the store; leases that are held become void.
	Close() error
}

// Mark is a moment in the life of a store handle; see Store.Wake.
type Mark uint64

// The conditions callers branch on; stores wrap them.
var (
	ErrNoRecipients = errors.New("queue: message has no recipients")
	ErrNotFound     = errors.New("queue: no such message")
	ErrStale        = errors.New("queue: lease is not held any more")
	ErrClosed       = errors.New("queue: store is closed")
	// ErrFailed: the store met an error after which it can not promise anything (a failed
	// fsync, a broken log) and refuses to go on; reopening it recovers.
	ErrFailed = errors.New("queue: store has failed")
	// ErrBusy: another process owns the store.
	ErrBusy = errors.New("queue: store is in use by another process")
)

// Want says what a caller of Lease can take.
type Want struct {
	// Max is the greatest number of leases to return; less than 1 means 1.
	Max int

	// For is how long the leases last; it must be positive.
	For time.Duration

	// Owner is shown in Entry and nowhere else.
	Owner string

	// PerRoute is how many leases a route may get that Room does not name; less than 1 means no limit.
	// Room names the exceptions: 0 skips the route, RoomDown skips it too but for items that
	// ask for attention (Settlement.Alarm). The store only reads the map, and only during the call.
	PerRoute int
	Room     map[string]int
}

// RoomDown is the Room of a route that is known to be unreachable.
const RoomDown = -1

// A Token proves the right to settle one lease. Fence differs for every lease of an item, so
// that a holder that was believed dead can not disturb its successor.
type Token struct {
	ID    ID
	Route string
	Fence uint64
}

// A Lease is an item given out to be worked on.
type Lease struct {
	Token    Token
	Envelope *Envelope // the whole message's; the caller may change its copy. What it says of the
	// state of recipients on other routes may be old.
	Size int64 // octets of the body

	// Due are the indexes into Envelope.Recipients of those to attempt: on this route,
	// pending and due. Never empty.
	Due []int

	// Now is the store's clock when the lease was given; Due times and ages count from it.
	Now time.Time

	// Until is when the lease ends unless it is renewed.
	Until time.Time

	// RouteDown is set when the item was given out only because its alarm has come: its route
	// is down and it is not to be attempted.
	RouteDown bool

	// Expire is set when the item was expired by hand: it is to be given up without a try.
	Expire bool
}

// A Settlement is the result of a lease.
type Settlement struct {
	// Recipients maps indexes of the lease's Envelope.Recipients, of its own route, to their new
	// state: of each the store takes Status, Attempts, Due, Warned and Last.
	// Those not named stay as they are. An empty Settlement gives the item back untouched.
	Recipients map[int]Recipient

	// Reports are enqueued in the same commit.
	Reports []Message

	// Alarm is when the item wants attention even though its route is down: to warn its sender,
	// or to be given up. Zero: at once, as soon as Lease meets it on a route whose Room is RoomDown.
	Alarm time.Time
}

// An Entry shows a queued message to people and tools.
type Entry struct {
	ID       ID
	Envelope Envelope // with the state of each recipient
	Size     int64
	Items    []Item
}

// An Item is the part of a message that shares a route.
type Item struct {
	Route   string
	Due     time.Time // earliest of its pending recipients
	State   ItemState
	Owner   string    // who holds the lease
	Until   time.Time // when the lease ends
	Expires bool      // to be given up at its next lease
}

// ItemState says what an item is doing.
type ItemState uint8

// ItemAny, in a Filter, selects all of them but those that are done.
const (
	ItemAny     ItemState = iota
	ItemWaiting           // for its time, or for a free place
	ItemLeased            // somebody works on it
	ItemHeld              // until it is released
	ItemDone              // its recipients are settled, others of the message are not
)

// String returns the name, as logs and lists show it.
func (s ItemState) String() string {
	switch s {
	case ItemWaiting:
		return "waiting"
	case ItemLeased:
		return "leased"
	case ItemHeld:
		return "held"
	case ItemDone:
		return "done"
	}
	return "any"
}

// A Filter selects messages for List and items for Alter. Every field that is set must fit;
// the zero Filter selects everything.
type Filter struct {
	IDs       []ID
	Route     string
	Sender    string    // an address, or "@domain", or "<>" for the null sender; case does not matter
	Recipient string    // an address or "@domain"
	Before    time.Time // arrived before
	After     time.Time // arrived at this time or later
	State     ItemState
	Limit     int // at most so many messages; 0 = no limit
}

// A Change is what Alter does to an item.
type Change struct {
	Op    Op
	Route string // for OpReroute
}

// Op is an operation of Alter. OpHold, OpRelease and OpExpire on a leased item act when its lease
// ends; OpKick leaves it out, and OpReroute leaves out a message that has leased items; OpRemove
// takes it away, so that its lease is stale.
type Op uint8

const (
	OpHold    Op = iota + 1 // give it out no more until it is released
	OpRelease               // end a hold
	OpKick                  // make it due now
	OpReroute               // move its pending recipients to Change.Route
	OpExpire                // give it up at its next lease, with a report to the sender
	OpRemove                // delete it, without a report
)

// String returns the name, as logs and lists show it.
func (o Op) String() string {
	names := [...]string{"", "hold", "release", "kick", "reroute", "expire", "remove"}
	if int(o) < len(names) {
		return names[o]
	}
	return "unknown"
}
