package imapserver

import (
	"context"
	"errors"
	"io"

	"github.com/mailblocks/mailblocks/imap"
)

// accessMailbox is a mailbox as a user may see and change it. Each call asks for the user's
// rights anew: a list that changed holds at once. Only upgrades that read may be looked for in
// what it wraps.
type accessMailbox struct {
	imap.Mailbox
	store *accessStore
	place place
}

var _ imap.Wrapper = (*accessMailbox)(nil)

// Unwrap implements imap.Wrapper.
func (m *accessMailbox) Unwrap() imap.Mailbox { return m.Mailbox }

func (m *accessMailbox) rights(ctx context.Context) (imap.RightSet, error) {
	has, err := m.place.rights(ctx, m.store.user)
	if errors.Is(err, imap.ErrNoMailbox) && m.place.owner == m.store.user {
		return imap.AllRights, nil // it goes by another name now, or will report itself that it has gone
	}
	return has, err
}

func (m *accessMailbox) need(ctx context.Context, want imap.RightSet) error {
	has, err := m.rights(ctx)
	if err == nil && has&want != want {
		err = denied(has)
	}
	return err
}

// rightsOn returns the rights of a session's user on an open mailbox.
func rightsOn(ctx context.Context, mb imap.Mailbox) (imap.RightSet, error) {
	if m, ok := imap.Upgrade[*accessMailbox](mb); ok {
		return m.rights(ctx)
	}
	return imap.AllRights, nil
}

// What makes a mailbox READ-WRITE (RFC 4314, 5.2).
const changeRights = imap.RightInsert | imap.RightExpunge | flagRights

const flagRights = imap.RightSeen | imap.RightWrite | imap.RightDeleted

// flagRight is the right that it takes to change a flag.
func flagRight(f imap.Flag) imap.RightSet {
	switch f.System() {
	case imap.Seen:
		return imap.RightSeen
	case imap.Deleted:
		return imap.RightDeleted
	}
	return imap.RightWrite
}

// allowed returns those of flags that may be changed.
func allowed(flags imap.Flags, has imap.RightSet) imap.Flags {
	if has&flagRights == flagRights {
		return flags
	}
	var some []imap.Flag
	for f := range flags.All() {
		if has&flagRight(f) != 0 {
			some = append(some, f)
		}
	}
	return imap.NewFlags(some...)
}

// own makes a state one of the user's: ids of others' mailboxes are told from the own ones.
func (m *accessMailbox) own(st imap.State) imap.State {
	if m.place.owner != m.store.user {
		st.ID = foreignID(m.place.owner, st.ID)
	}
	return st
}

func (m *accessMailbox) State(ctx context.Context) (imap.State, error) {
	if err := m.need(ctx, imap.RightRead); err != nil {
		return imap.State{}, err
	}
	st, err := m.Mailbox.State(ctx)
	return m.own(st), err
}

func (m *accessMailbox) Changes(ctx context.Context, since imap.ModSeq) (imap.Delta, error) {
	if err := m.need(ctx, imap.RightRead); err != nil {
		return imap.Delta{}, err
	}
	d, err := m.Mailbox.Changes(ctx, since)
	d.State = m.own(d.State)
	return d, err
}

// Body does not ask for an owner's right again: State did, for SELECT.
func (m *accessMailbox) Body(ctx context.Context, uid imap.UID) (imap.Body, error) {
	if m.place.owner != m.store.user {
		if err := m.need(ctx, imap.RightRead); err != nil {
			return nil, err
		}
	}
	return m.Mailbox.Body(ctx, uid)
}

// Append needs i. Flags that the user may not set are left out.
func (m *accessMailbox) Append(ctx context.Context, msgs []imap.NewMessage) (imap.AppendResult, error) {
	has, err := m.rights(ctx)
	if err == nil && has&imap.RightInsert == 0 {
		err = denied(has)
	}
	if err != nil {
		return imap.AppendResult{}, err
	}
	for i := range msgs {
		msgs[i].Flags = allowed(msgs[i].Flags, has)
	}
	return m.Mailbox.Append(ctx, msgs)
}

// SetFlags changes the flags that the user may change, and fails when there is none.
func (m *accessMailbox) SetFlags(ctx context.Context, set imap.UIDSet, op imap.FlagOp, unchangedSince imap.ModSeq) (imap.UIDSet, error) {
	has, err := m.rights(ctx)
	if err != nil {
		return nil, err
	}
	if has&flagRights == flagRights {
		return m.Mailbox.SetFlags(ctx, set, op, unchangedSince)
	}
	wanted := op.Flags
	op.Flags = allowed(wanted, has)
	if has&flagRights == 0 || op.Flags.Len() == 0 && wanted.Len() > 0 {
		return nil, denied(has)
	}
	if op.Action != imap.FlagsReplace {
		return m.Mailbox.SetFlags(ctx, set, op, unchangedSince)
	}
	// The flags of others stay: what may be changed is added, and what is left of it removed.
	op.Action = imap.FlagsAdd
	conflict, err := m.Mailbox.SetFlags(ctx, set, op, unchangedSince)
	if err != nil {
		return nil, err
	}
	st, err := m.Mailbox.State(ctx)
	if err != nil {
		return nil, err
	}
	all := imap.MakeFlags(imap.Seen|imap.Answered|imap.Flagged|imap.Deleted|imap.Draft, append([]string(nil), st.Keywords...))
	rest := allowed(all, has)
	for f := range op.Flags.All() {
		rest = rest.Without(f)
	}
	_, err = m.Mailbox.SetFlags(ctx, set.Subtract(conflict), imap.FlagOp{Action: imap.FlagsRemove, Flags: rest}, 0)
	return conflict, err
}

// Expunge needs e and, where \Deleted is not asked for, t.
func (m *accessMailbox) Expunge(ctx context.Context, set imap.UIDSet, onlyDeleted bool) error {
	want := imap.RightExpunge
	if !onlyDeleted {
		want |= imap.RightDeleted
	}
	if err := m.need(ctx, want); err != nil {
		return err
	}
	return m.Mailbox.Expunge(ctx, set, onlyDeleted)
}

// Copy needs i there, and to move also t and e here (RFC 6851, 4.4). Between two owners, and
// where some flags may not be set, it is an Append.
func (m *accessMailbox) Copy(ctx context.Context, set imap.UIDSet, dst string, move bool) (imap.Copied, error) {
	want := imap.RightRead
	if move {
		want |= imap.RightDeleted | imap.RightExpunge
	}
	if err := m.need(ctx, want); err != nil {
		return imap.Copied{}, err
	}
	to, err := m.store.place(ctx, dst)
	if errors.Is(err, imap.ErrNotSelectable) {
		err = imap.ErrNoMailbox
	}
	if err != nil {
		return imap.Copied{}, err
	}
	has, err := to.rights(ctx, m.store.user)
	if err == nil && has&imap.RightInsert == 0 {
		err = denied(has)
	}
	if err != nil {
		return imap.Copied{}, err
	}
	if to.owner == m.place.owner && has&flagRights == flagRights {
		return m.Mailbox.Copy(ctx, set, to.name, move)
	}
	return m.appendTo(ctx, to, has, set, move)
}

// appendTo copies by reading here and appending there; to move, the originals go after that.
func (m *accessMailbox) appendTo(ctx context.Context, to place, has imap.RightSet, set imap.UIDSet, move bool) (done imap.Copied, err error) {
	dst, err := to.store.Open(ctx, to.name)
	if err != nil {
		if errors.Is(err, imap.ErrNotSelectable) {
			err = imap.ErrNoMailbox
		}
		return done, err
	}
	defer dst.Close()
	d, err := m.Mailbox.Changes(ctx, 0)
	if err != nil {
		return done, err
	}
	var msgs []imap.NewMessage
	for msg, err := range d.Messages {
		if err != nil {
			return done, err
		}
		if !set.Contains(msg.UID) {
			continue
		}
		body := &lateBody{ctx: ctx, mb: m.Mailbox, uid: msg.UID}
		defer body.close()
		msgs = append(msgs, imap.NewMessage{Flags: allowed(msg.Flags, has), InternalDate: msg.InternalDate, Body: body, Size: msg.Size, ID: msg.ID})
		done.From = append(done.From, msg.UID)
	}
	if len(msgs) == 0 {
		return imap.Copied{}, nil
	}
	added, err := dst.Append(ctx, msgs)
	if err != nil {
		return imap.Copied{}, err
	}
	done.UIDValidity, done.To = added.UIDValidity, added.UIDs
	if move {
		err = m.Mailbox.Expunge(ctx, imap.NumSetOf(done.From...), false)
	}
	return done, err
}

// lateBody opens a message when it is first read, and closes it at its end: of many, one is
// open at a time.
type lateBody struct {
	ctx  context.Context
	mb   imap.Mailbox
	uid  imap.UID
	body imap.Body
	r    io.Reader
}

func (l *lateBody) Read(p []byte) (n int, err error) {
	if l.r == nil {
		if l.body, err = l.mb.Body(l.ctx, l.uid); err != nil {
			return 0, err
		}
		l.r = io.NewSectionReader(l.body, 0, l.body.Size())
	}
	n, err = l.r.Read(p)
	if errors.Is(err, io.EOF) {
		l.close()
	}
	return n, err
}

func (l *lateBody) close() {
	if l.body != nil {
		_ = l.body.Close()
		l.body = nil
	}
}
