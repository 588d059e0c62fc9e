package imap

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// Rights is implemented by Stores that keep an access control list for each mailbox
// (RFC 4314). A Store only keeps the lists: servers ask EffectiveRights and enforce them, for
// those who share the mailbox and for its owner. A list follows its mailbox when it is
// renamed and goes when it is deleted. Renaming the Inbox copies its list.
type Rights interface {
	// ACL returns a mailbox's list, empty when none was ever set. ErrNoMailbox.
	ACL(ctx context.Context, mailbox string) (ACL, error)
	// SetRights changes the rights of one identifier. An entry left without rights is
	// removed. ErrNoMailbox; ErrLimit: more than MaxACL entries.
	SetRights(ctx context.Context, mailbox, identifier string, op RightsOp) error
}

// RightSet is a set of rights, one bit each (RFC 4314, 2.1).
type RightSet uint16

// The rights.
const (
	RightLookup     RightSet = 1 << iota // l: LIST shows the mailbox
	RightRead                            // r: SELECT, STATUS
	RightSeen                            // s: change \Seen
	RightWrite                           // w: change flags but \Seen and \Deleted
	RightInsert                          // i: APPEND, COPY to it
	RightPost                            // p: send mail to it
	RightCreate                          // k: make mailboxes below it
	RightDeleteBox                       // x: DELETE and RENAME it
	RightDeleted                         // t: change \Deleted
	RightExpunge                         // e: EXPUNGE
	RightAdminister                      // a: change its list
	AllRights       RightSet = 1<<iota - 1
)

const rightLetters = "lrswipkxtea"

// ParseRights reads rights as clients write them. The "c" and "d" of RFC 2086 stand for kx and
// te (RFC 4314, 2.1.1). Not ok: a letter that is no right.
func ParseRights(s string) (rights RightSet, ok bool) {
	for i := range len(s) {
		switch k := strings.IndexByte(rightLetters, s[i]); {
		case k >= 0:
			rights |= 1 << k
		case s[i] == 'c':
			rights |= RightCreate | RightDeleteBox
		case s[i] == 'd':
			rights |= RightDeleted | RightExpunge
		default:
			return 0, false
		}
	}
	return rights, true
}

// String returns the letters of the rights, without "c" and "d".
func (r RightSet) String() string {
	var b []byte
	for i := range len(rightLetters) {
		if r&(1<<i) != 0 {
			b = append(b, rightLetters[i])
		}
	}
	return string(b)
}

// RightsOp is a change of rights.
type RightsOp struct {
	Action FlagAction
	Rights RightSet
}

// An ACL is a mailbox's access control list, in the order in which it was set.
type ACL []ACLEntry

// ACLEntry is what one identifier is granted: a user, AnyIdentifier or OwnerIdentifier. With a
// "-" before it, what is taken away from whom it names (RFC 4314, 2).
type ACLEntry struct {
	Identifier string
	Rights     RightSet
}

// Identifiers that name no single user.
const (
	AnyIdentifier   = "anyone"
	OwnerIdentifier = "owner" // of the Store
)

// MaxACL is how many entries a list may have.
const MaxACL = 1000

// With returns the list that op on identifier makes of a, which stays as it is. ErrLimit.
func (a ACL) With(identifier string, op RightsOp) (ACL, error) {
	a = slices.Clone(a)
	i := slices.IndexFunc(a, func(e ACLEntry) bool { return e.Identifier == identifier })
	if i < 0 {
		i = len(a)
		a = append(a, ACLEntry{Identifier: identifier})
	}
	switch op.Action {
	case FlagsAdd:
		a[i].Rights |= op.Rights
	case FlagsRemove:
		a[i].Rights &^= op.Rights
	default:
		a[i].Rights = op.Rights
	}
	if a[i].Rights == 0 {
		a = slices.Delete(a, i, i+1)
	}
	if len(a) > MaxACL {
		return nil, ErrLimit
	}
	return a, nil
}

// OwnerAlways are the rights that an owner has whatever the list says, lest nobody can
// repair it.
const OwnerAlways = RightLookup | RightAdminister

// Of returns the rights of a user: what is granted to any identifier that means the user,
// less what is taken away from any. An owner without an entry has all rights to begin with.
func (a ACL) Of(user, owner string) RightSet {
	isOwner := user == owner
	var granted, denied RightSet
	named := false
	for _, e := range a {
		name, negative := strings.CutPrefix(e.Identifier, "-")
		itself := name == user || isOwner && name == OwnerIdentifier
		switch {
		case !itself && name != AnyIdentifier:
		case negative:
			denied |= e.Rights
		default:
			granted |= e.Rights
			named = named || itself
		}
	}
	if isOwner && !named {
		granted = AllRights
	}
	granted &^= denied
	if isOwner {
		granted |= OwnerAlways
	}
	return granted
}

// EffectiveRights returns the rights that user has on a mailbox of the owner's Store. All
// rights are the owner's, and none another's, where the Store keeps no lists or where the name
// is only a level of the hierarchy. A mailbox that is not there is ErrNoMailbox.
func EffectiveRights(ctx context.Context, s Store, mailbox, user, owner string) (RightSet, error) {
	var acl ACL
	if r, ok := UpgradeStore[Rights](s); ok {
		var err error
		if acl, err = r.ACL(ctx, mailbox); errors.Is(err, ErrNotSelectable) {
			acl = nil
		} else if err != nil {
			return 0, err
		}
	}
	return acl.Of(user, owner), nil
}
