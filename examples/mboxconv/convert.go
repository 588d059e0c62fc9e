package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/mbox"
)

// batch is how many messages are made durable, and noted, together.
const batch = 32

// toMaildir copies the mbox file from. A message's id is made of what it holds: the store
// keeps it, so that even what was copied and not noted is known again.
func (j *job) toMaildir(ctx context.Context, box imap.Mailbox, from, to string) (err error) {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	done, err := openNote(filepath.Join(to, "mboxconv-"+strings.ReplaceAll(j.mailbox, "/", ".")))
	if err != nil {
		return err
	}
	defer done.close()
	delta, err := box.Changes(ctx, 0)
	if err != nil {
		return err
	}
	for m, err := range delta.Messages {
		if err != nil {
			return err
		}
		done.done[m.ID] = true
	}
	r := mbox.NewReader(f, &mbox.ReaderOptions{Dialect: j.dialect, CRLF: true, Doubt: func(d mbox.Doubt) {
		fmt.Fprintf(j.out, "%s: octet %d: %s\n", from, d.Offset, d.Reason)
	}})
	var held []*message
	var msgs []imap.NewMessage
	flush := func() error {
		if len(msgs) > 0 {
			if _, err := box.Append(ctx, msgs); err != nil {
				return err
			}
			ids := make([]string, len(msgs))
			for i, m := range msgs {
				ids[i] = m.ID
			}
			if err := done.did(ids); err != nil {
				return err
			}
		}
		closeAll(held)
		held, msgs = nil, nil
		return nil
	}
	defer func() { closeAll(held) }()
	same := make(map[string]int) // equal messages are counted
	for in, err := range r.Messages() {
		if err != nil {
			return err
		}
		m, err := readMessage(in.Body, "")
		if err != nil {
			return err
		}
		held = append(held, m)
		key := fmt.Sprintf("%s-%x", m.sum, in.Date.Unix())
		same[key]++
		id := fmt.Sprintf("mbox-%s-%d", key, same[key])
		if m.internal() {
			continue
		}
		if done.done[id] {
			j.before++
		} else {
			msgs = append(msgs, imap.NewMessage{Flags: m.flags(), InternalDate: in.Date, Body: m.body.Reader(), Size: m.body.Size(), ID: id})
			j.copied++
			j.progress(in.Offset, info.Size())
		}
		if len(held) == batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func closeAll(ms []*message) {
	for _, m := range ms {
		m.body.Close()
	}
}

// toMbox appends the messages of box to the mbox file to.
func (j *job) toMbox(ctx context.Context, box imap.Mailbox, _, to string) error {
	done, err := openNote(filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".mboxconv"))
	if err != nil {
		return err
	}
	defer done.close()
	if len(done.open) > 0 {
		if err := j.resume(ctx, done, to); err != nil {
			return err
		}
	}
	delta, err := box.Changes(ctx, 0)
	if err != nil {
		return err
	}
	var list []imap.Message
	n := int64(0)
	for m, err := range delta.Messages {
		if err != nil {
			return err
		}
		n++
		if done.done[noteID(delta.State, m)] {
			j.before++
			continue
		}
		if list = append(list, m); len(list) == batch {
			if err := j.appendBatch(ctx, box, delta.State, list, done, to); err != nil {
				return err
			}
			list = nil
			j.progress(n, int64(delta.State.Messages))
		}
	}
	return j.appendBatch(ctx, box, delta.State, list, done, to)
}

// noteID names a message in the note of a Maildir.
func noteID(s imap.State, m imap.Message) string { return fmt.Sprintf("%d.%d", s.UIDValidity, m.UID) }

func (j *job) appendBatch(ctx context.Context, box imap.Mailbox, state imap.State, list []imap.Message, done *note, to string) error {
	if len(list) == 0 {
		return nil
	}
	var held []*message
	defer func() { closeAll(held) }()
	var msgs []mbox.Outgoing
	var ids []string
	for _, m := range list {
		body, err := box.Body(ctx, m.UID)
		if err != nil {
			return err
		}
		h, err := readMessage(io.NewSectionReader(body, 0, body.Size()), formatFlags(m.Flags))
		body.Close()
		if err != nil {
			return err
		}
		held = append(held, h)
		sender := h.fields["Return-Path"]
		if strings.ContainsAny(sender, " \t\r\n\x00") || len(sender) > 320 {
			sender = ""
		}
		msgs = append(msgs, mbox.Outgoing{Sender: sender, Date: m.InternalDate, Body: h.body.Reader()})
		ids = append(ids, noteID(state, m))
	}
	lock, err := mbox.LockFile(ctx, to, nil)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	info, err := lock.File().Stat()
	if err != nil {
		return err
	}
	if err := done.try(info.Size(), held[0].sum, ids); err != nil {
		return err
	}
	if err := lock.Append(ctx, &mbox.WriterOptions{Dialect: j.dialect, LF: true}, msgs...); err != nil {
		return err
	}
	j.copied += len(list)
	return done.did(ids)
}

// resume finds out whether the last batch of an interrupted run is in the file. It was
// appended whole or not at all, so its first message tells.
func (j *job) resume(ctx context.Context, done *note, to string) error {
	lock, err := mbox.LockFile(ctx, to, nil)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	info, err := lock.File().Stat()
	if err != nil || info.Size() <= done.offset {
		return err
	}
	dialect := j.dialect
	if dialect == mbox.Auto {
		dialect = mbox.RD
	}
	part := io.NewSectionReader(lock.File(), done.offset, info.Size()-done.offset)
	first, err := mbox.NewReader(part, &mbox.ReaderOptions{Dialect: dialect, CRLF: true}).Next()
	if err != nil {
		return err
	}
	m, err := readMessage(first.Body, "")
	if err != nil {
		return err
	}
	defer m.body.Close()
	if m.sum == done.sum {
		return done.did(done.open)
	}
	return nil
}
