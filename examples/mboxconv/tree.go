package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/maildir"
	"github.com/mailblocks/mailblocks/mbox"
)

// openTree opens a tree of mailboxes: a Maildir++ tree where there is a cur/, else one of mbox files.
func (j *job) openTree(root string, asMaildir bool) (imap.Store, error) {
	if asMaildir {
		return maildir.Open(root, nil)
	}
	return mbox.Open(root, &mbox.Options{DirName: j.dirName, Dialect: j.dialect})
}

func isMaildir(root string) bool {
	info, err := os.Stat(filepath.Join(root, "cur"))
	return err == nil && info.IsDir()
}

// convertTree copies every mailbox of the tree from into the tree to, which is of the other kind.
func (j *job) convertTree(ctx context.Context, from, to string) error {
	fromMaildir := isMaildir(from)
	if info, err := os.Stat(to); err == nil && info.IsDir() && isMaildir(to) == fromMaildir {
		if entries, err := os.ReadDir(to); err != nil || len(entries) > 0 {
			return errors.Join(fmt.Errorf("%s and %s are trees of one kind", from, to), err)
		}
	}
	src, err := j.openTree(from, fromMaildir)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := j.openTree(to, !fromMaildir)
	if err != nil {
		return err
	}
	defer dst.Close()
	for info, err := range src.Mailboxes(ctx) {
		if err != nil {
			return err
		}
		if info.Subscribed {
			if err := dst.Subscribe(ctx, info.Name, true); err != nil {
				return err
			}
		}
		if info.NoSelect {
			continue
		}
		if info.Name != imap.Inbox {
			err := dst.Create(ctx, info.Name, &imap.CreateOptions{SpecialUse: info.SpecialUse})
			if err != nil && !errors.Is(err, imap.ErrMailboxExists) {
				return err
			}
		}
		fmt.Fprintln(j.out, info.Name)
		if err := j.copyMailbox(ctx, src, dst, info.Name, to); err != nil {
			return fmt.Errorf("%s: %w", info.Name, err)
		}
	}
	return nil
}

func (j *job) copyMailbox(ctx context.Context, src, dst imap.Store, name, to string) error {
	in, err := src.Open(ctx, name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := dst.Open(ctx, name)
	if err != nil {
		return err
	}
	defer out.Close()
	done, err := openNote(filepath.Join(to, ".mboxconv-"+strings.NewReplacer("/", ".", "%", "%25", ".", "%2E").Replace(name)))
	if err != nil {
		return err
	}
	defer done.close()
	if len(done.open) > 0 {
		// What an interrupted run appended has UIDs from the one it noted on.
		state, err := out.State(ctx)
		if err != nil {
			return err
		}
		there := max(0, min(int64(state.UIDNext)-done.offset, int64(len(done.open))))
		if err := done.did(done.open[:there]); err != nil {
			return err
		}
	}
	delta, err := in.Changes(ctx, 0)
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
			if err := j.copyBatch(ctx, in, out, delta.State, list, done); err != nil {
				return err
			}
			list = nil
			j.progress(n, int64(delta.State.Messages))
		}
	}
	return j.copyBatch(ctx, in, out, delta.State, list, done)
}

func (j *job) copyBatch(ctx context.Context, in, out imap.Mailbox, state imap.State, list []imap.Message, done *note) error {
	if len(list) == 0 {
		return nil
	}
	var msgs []imap.NewMessage
	var ids []string
	for _, m := range list {
		body, err := in.Body(ctx, m.UID)
		if errors.Is(err, imap.ErrExpunged) {
			continue
		}
		if err != nil {
			return err
		}
		defer body.Close()
		msgs = append(msgs, imap.NewMessage{Flags: m.Flags, InternalDate: m.InternalDate, Body: io.NewSectionReader(body, 0, body.Size()), Size: body.Size(), ID: m.ID})
		ids = append(ids, noteID(state, m))
	}
	before, err := out.State(ctx)
	if err != nil {
		return err
	}
	if err := done.try(int64(before.UIDNext), "uid", ids); err != nil {
		return err
	}
	if _, err := out.Append(ctx, msgs); err != nil {
		return err
	}
	j.copied += len(msgs)
	return done.did(ids)
}
