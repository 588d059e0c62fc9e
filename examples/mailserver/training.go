package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/spam"
)

// trainingStore wraps a user's mail as IMAP sessions see it: who moves a message into Junk
// calls it spam, who moves one out of it calls it wanted; the flags $Junk and $NotJunk say
// the same, and who answers a message wanted it.
type trainingStore struct {
	imap.Store
	user  string
	train func(ctx context.Context, user string, text io.Reader, l spam.Label) error
}

func (s trainingStore) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	box, err := s.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return trainingMailbox{Mailbox: box, store: s, name: name}, nil
}

// Unwrap lets servers find the optional abilities of the Store below.
func (s trainingStore) Unwrap() imap.Store { return s.Store }

type trainingMailbox struct {
	imap.Mailbox
	store trainingStore
	name  string
}

var _ imap.Wrapper = trainingMailbox{}

// Unwrap lets servers find the optional abilities of the mailbox below.
func (m trainingMailbox) Unwrap() imap.Mailbox { return m.Mailbox }

func (m trainingMailbox) Copy(ctx context.Context, set imap.UIDSet, dst string, move bool) (imap.Copied, error) {
	copied, err := m.Mailbox.Copy(ctx, set, dst, move)
	if err == nil && (dst == junk) != (m.name == junk) && dst != trash && m.name != trash {
		l := spam.Ham
		if dst == junk {
			l = spam.Spam
		}
		m.store.learn(ctx, dst, imap.NumSetOf(copied.To...), l)
	}
	return copied, err
}

// SetFlags trains with the messages whose flags were set, unless they could not be: a store
// that is asked to change only what nobody else changed says nothing of which it did.
func (m trainingMailbox) SetFlags(ctx context.Context, set imap.UIDSet, op imap.FlagOp, unchangedSince imap.ModSeq) (imap.UIDSet, error) {
	conflict, err := m.Mailbox.SetFlags(ctx, set, op, unchangedSince)
	if l := labelOf(op); err == nil && l != spam.Unlabelled && len(conflict) == 0 {
		m.store.learn(ctx, m.name, set, l)
	}
	return conflict, err
}

// labelOf returns what setting flags says of a message.
func labelOf(op imap.FlagOp) spam.Label {
	isJunk, isNot := op.Flags.Has(imap.FlagJunk), op.Flags.Has(imap.FlagNotJunk)
	switch {
	case op.Action == imap.FlagsRemove:
	case isJunk && !isNot:
		return spam.Spam
	case isNot && !isJunk, op.Flags.Has(imap.FlagAnswered) && !isJunk:
		return spam.Ham
	}
	return spam.Unlabelled
}

// trash says nothing about what is thrown there.
const trash = "Trash"

// maxTrained bounds how much one command teaches: who empties a folder of 100,000 messages
// into Junk does not wait for all of them to be read.
const maxTrained = 1000

// learn trains the filter with messages where they are now. What fails is logged: the move
// is done and stays done.
func (s trainingStore) learn(ctx context.Context, name string, set imap.UIDSet, l spam.Label) {
	box, err := s.Store.Open(ctx, name)
	if err != nil {
		slog.Warn("not trained", slog.String("mailbox", name), slog.Any("err", err))
		return
	}
	defer box.Close()
	n := 0
	for uid := range set.All() {
		if n++; n > maxTrained {
			slog.Info("training cut short", slog.String("user", s.user), slog.Uint64("messages", set.Len()), slog.Int("trained", maxTrained))
			return
		}
		if err := s.learnOne(ctx, box, uid, l); err != nil && !errors.Is(err, imap.ErrExpunged) {
			slog.Warn("not trained", slog.String("mailbox", name), slog.Uint64("uid", uint64(uid)), slog.Any("err", err))
		}
	}
}

func (s trainingStore) learnOne(ctx context.Context, box imap.Mailbox, uid imap.UID, l spam.Label) error {
	body, err := box.Body(ctx, uid)
	if err != nil {
		return err
	}
	defer body.Close()
	return s.train(ctx, s.user, io.NewSectionReader(body, 0, body.Size()), l)
}
