package imap

import "errors"

// Conditions that stores report and servers turn into response codes (RFC 5530, RFC 9051, 7.1).
// Stores wrap them with what was attempted; look through the wrapping with errors.Is. Any
// other error is the store's own trouble: NO [SERVERBUG] or [UNAVAILABLE], its text withheld.
var (
	ErrNoMailbox     = errors.New("imap: no such mailbox")                       // NONEXISTENT, or TRYCREATE as a destination
	ErrMailboxExists = errors.New("imap: mailbox already exists")                // ALREADYEXISTS
	ErrBadName       = errors.New("imap: mailbox name not possible here")        // CANNOT
	ErrHasChildren   = errors.New("imap: mailbox has children")                  // HASCHILDREN
	ErrNotSelectable = errors.New("imap: mailbox holds no messages")             // NO: a level of the hierarchy only
	ErrExpunged      = errors.New("imap: message no longer exists")              // EXPUNGEISSUED
	ErrOverQuota     = errors.New("imap: over quota")                            // OVERQUOTA
	ErrTooBig        = errors.New("imap: message too large")                     // TOOBIG / LIMIT
	ErrLimit         = errors.New("imap: limit reached")                         // LIMIT: keywords, mailboxes ...
	ErrReadOnly      = errors.New("imap: mailbox is read-only")                  // READ-ONLY
	ErrNoPermission  = errors.New("imap: permission denied")                     // NOPERM
	ErrInUse         = errors.New("imap: mailbox is in use")                     // INUSE: try later
	ErrTooOld        = errors.New("imap: changes that far back are not on file") // ask for Changes since 0
	ErrNoQuotaRoot   = errors.New("imap: no such quota root")                    // NONEXISTENT
	ErrClosed        = errors.New("imap: closed")                                // a handle used after Close
)
