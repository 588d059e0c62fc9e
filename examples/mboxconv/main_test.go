//go:build unix

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/maildir"
	"github.com/mailblocks/mailblocks/mbox"
)

const source = `From a@example.org Sun Nov 22 00:21:03 2026
Return-Path: <a@example.org>
Status: RO
X-Status: AF
X-Keywords: $Label1 work
Subject: one

>From x

From b@example.org Mon Nov 23 00:21:03 2026
Subject: two

same

From b@example.org Mon Nov 23 00:21:03 2026
Subject: two

same

`

type mail struct{ flags, date, text string }

func list(t *testing.T, root string) (mails []mail) {
	store, err := maildir.Open(root, nil)
	require.NoError(t, err)
	defer store.Close()
	box, err := store.Open(context.Background(), imap.Inbox)
	require.NoError(t, err)
	defer box.Close()
	delta, err := box.Changes(context.Background(), 0)
	require.NoError(t, err)
	for m, err := range delta.Messages {
		require.NoError(t, err)
		body, err := box.Body(context.Background(), m.UID)
		require.NoError(t, err)
		text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		require.NoError(t, err)
		require.NoError(t, body.Close())
		mails = append(mails, mail{m.Flags.String(), m.InternalDate.UTC().Format(time.DateTime), string(text)})
	}
	return mails
}

func convert(t *testing.T, args ...string) string {
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), args, &out))
	return out.String()
}

func TestConvert(t *testing.T) {
	dir := t.TempDir()
	file, root, back, again := filepath.Join(dir, "in"), filepath.Join(dir, "Maildir"), filepath.Join(dir, "out"), filepath.Join(dir, "Maildir2")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	assert.Equal(t, "3 messages copied, 0 were there\n", convert(t, file, root))
	mails := list(t, root)
	require.Len(t, mails, 3)
	assert.Equal(t, mail{imap.MakeFlags(imap.Seen|imap.Answered|imap.Flagged, []string{"$Label1", "work"}).String(), "2026-11-22 00:21:03",
		"Return-Path: <a@example.org>\r\nSubject: one\r\n\r\nFrom x\r\n"}, mails[0])
	assert.Equal(t, "Subject: two\r\n\r\nsame\r\n", mails[2].text)

	assert.Equal(t, "0 messages copied, 3 were there\n", convert(t, file, root))
	require.NoError(t, os.Remove(filepath.Join(root, "mboxconv-INBOX")))
	assert.Equal(t, "0 messages copied, 3 were there\n", convert(t, file, root), "copied, and not noted")
	more := strings.NewReader("Subject: three\n\n")
	require.NoError(t, mbox.Append(context.Background(), file, nil, nil, mbox.Outgoing{Body: more}))
	assert.Equal(t, "1 messages copied, 3 were there\n", convert(t, file, root))

	assert.Equal(t, "4 messages copied, 0 were there\n", convert(t, root, back))
	whole, err := os.ReadFile(back)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(whole), "From a@example.org Sun Nov 22 00:21:03 2026\nStatus: RO\nX-Status: AF\nX-Keywords: $Label1 work\nReturn-Path: "), string(whole))
	assert.Equal(t, "0 messages copied, 4 were there\n", convert(t, root, back))
	assert.Equal(t, "4 messages copied, 0 were there\n", convert(t, back, again))
	assert.Equal(t, list(t, root), list(t, again))

	// A crash after the messages were appended, and one before.
	notePath := filepath.Join(dir, ".out.mboxconv")
	text, err := os.ReadFile(notePath)
	require.NoError(t, err)
	tried := text[:bytes.IndexByte(text, '\n')+1]
	require.NoError(t, os.WriteFile(notePath, append(tried, "did 1"...), 0o600))
	assert.Equal(t, "0 messages copied, 4 were there\n", convert(t, root, back))
	require.NoError(t, os.WriteFile(notePath, tried, 0o600))
	require.NoError(t, os.Truncate(back, 0))
	assert.Equal(t, "4 messages copied, 0 were there\n", convert(t, root, back))
	final, err := os.ReadFile(back)
	require.NoError(t, err)
	assert.Equal(t, string(whole), string(final))
}

func TestConvertRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{}, {filepath.Join(dir, "none"), dir}, {dir, filepath.Join(dir, "box")}, {"-dialect", "x", dir, dir}} {
		assert.Error(t, run(context.Background(), args, io.Discard), args)
	}
}

func tree(t *testing.T, store imap.Store) map[string][]mail {
	ctx := context.Background()
	all := make(map[string][]mail)
	for info, err := range store.Mailboxes(ctx) {
		require.NoError(t, err)
		if info.NoSelect {
			continue
		}
		box, err := store.Open(ctx, info.Name)
		require.NoError(t, err)
		delta, err := box.Changes(ctx, 0)
		require.NoError(t, err)
		all[info.Name] = []mail{{flags: string(info.SpecialUse), text: map[bool]string{true: "subscribed"}[info.Subscribed]}}
		for m, err := range delta.Messages {
			require.NoError(t, err)
			body, err := box.Body(ctx, m.UID)
			require.NoError(t, err)
			text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
			require.NoError(t, err)
			require.NoError(t, body.Close())
			all[info.Name] = append(all[info.Name], mail{m.Flags.String(), m.InternalDate.UTC().Format(time.DateTime), string(text)})
		}
		require.NoError(t, box.Close())
	}
	return all
}

func TestConvertTree(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	first, files, back := filepath.Join(dir, "Maildir"), filepath.Join(dir, "mboxes"), filepath.Join(dir, "Maildir2")
	store, err := maildir.Open(first, nil)
	require.NoError(t, err)
	require.NoError(t, store.Create(ctx, "Sent", &imap.CreateOptions{SpecialUse: imap.UseSent}))
	require.NoError(t, store.Create(ctx, "Größe/Sub.x", nil))
	require.NoError(t, store.Subscribe(ctx, "Größe/Sub.x", true))
	fill := func(name string, from, to int) {
		box, err := store.Open(ctx, name)
		require.NoError(t, err)
		for i := from; i < to; i++ {
			_, err := box.Append(ctx, []imap.NewMessage{{
				Flags: imap.NewFlags(imap.FlagSeen, "word"), InternalDate: time.Date(2020, 1, 2, 3, 4, i, 0, time.UTC),
				Body: strings.NewReader("Subject: " + strings.Repeat("x", i) + "\r\n\r\nFrom x\r\nbody"),
			}})
			require.NoError(t, err)
		}
		require.NoError(t, box.Close())
	}
	fill(imap.Inbox, 0, 40)
	fill("Größe/Sub.x", 0, 3)
	assert.Contains(t, convert(t, "-tree", first, files), "43 messages copied, 0 were there\n")
	fill("Sent", 0, 2)
	assert.Contains(t, convert(t, "-tree", first, files), "2 messages copied, 43 were there\n")
	assert.Contains(t, convert(t, "-tree", files, back), "45 messages copied, 0 were there\n")
	again, err := maildir.Open(back, nil)
	require.NoError(t, err)
	assert.Equal(t, tree(t, store), tree(t, again))

	// A crash after a batch was appended and before that was noted.
	path := filepath.Join(back, ".mboxconv-Sent")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	tried := text[:bytes.IndexByte(text, '\n')+1]
	require.NoError(t, os.WriteFile(path, tried, 0o600))
	assert.Contains(t, convert(t, "-tree", files, back), "0 messages copied, 45 were there\n")
	assert.Error(t, run(ctx, []string{"-tree", first, back}, io.Discard), "two of a kind")
}
