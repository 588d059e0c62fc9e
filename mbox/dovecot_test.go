//go:build unix

package mbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// A doveadm is Debian's Dovecot on a tree of ours.
type doveadm struct {
	*testing.T
	dir, root string
	store     *Store
}

func newDoveadm(t *testing.T, opts Options) doveadm {
	if _, err := exec.LookPath("doveadm"); err != nil {
		shared.Missing(t, "doveadm")
	}
	if os.Geteuid() != 0 && os.Getenv("MBOX_TEST_INNER") == "" {
		t.Skip("it changes owners, which takes root")
	}
	dir, err := os.MkdirTemp("", "mbox")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := doveadm{T: t, dir: dir, root: filepath.Join(dir, "mail")}
	d.store, err = Open(d.root, &opts)
	require.NoError(t, err)
	location := "mbox:" + d.root
	if opts.DirName != "" {
		location += ":DIRNAME=" + opts.DirName + ":INDEX=" + dir + "/index" // the folder it has indexes in else is a file here
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "conf"), fmt.Appendf(nil,
		"stats_writer_socket_path =\nlog_path = %s/log\nmail_location = %s\nmail_uid = nobody\nmail_gid = nogroup\nfirst_valid_uid = 1\n", dir, location), 0o644))
	require.NoError(t, os.Chmod(dir, 0o755))
	return d
}

// run runs a command of doveadm as the user whom it lets read mail: the tree changes hands.
func (d doveadm) run(stdin string, args ...string) string {
	d.Helper()
	if os.Geteuid() == 0 {
		out, err := exec.Command("chown", "-R", "nobody:nogroup", d.dir).CombinedOutput()
		require.NoError(d, err, string(out))
	}
	out, err := d.command(stdin, args...).CombinedOutput()
	require.NoError(d, err, "%s: %s", strings.Join(args, " "), out)
	d.quiet()
	return string(out)
}

func (d doveadm) command(stdin string, args ...string) *exec.Cmd {
	cmd := exec.Command("doveadm", append([]string{"-c", filepath.Join(d.dir, "conf")}, args...)...)
	cmd.Env = append(os.Environ(), "USER=nobody", "HOME="+d.dir)
	cmd.Dir = d.root
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// quiet checks that Dovecot found nothing to warn of.
func (d doveadm) quiet() {
	d.Helper()
	log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
	require.NotRegexp(d, `Warning|Error|Panic|Fatal`, string(log))
}

// fetch returns messages as "uid flags", as list does.
func (d doveadm) fetch(mailbox string) (list []string) {
	d.Helper()
	for _, line := range strings.Split(strings.TrimSpace(d.run("", "-f", "tab", "fetch", "uid flags", "mailbox", mailbox, "all")), "\n")[1:] {
		uid, flags, _ := strings.Cut(line, "\t")
		var known []imap.Flag
		for f := range strings.FieldsSeq(flags) {
			if f != `\Recent` {
				known = append(known, imap.Flag(f))
			}
		}
		list = append(list, uid+" "+imap.NewFlags(known...).String())
	}
	return list
}

func (d doveadm) list(box imap.Mailbox) (list []string) {
	d.Helper()
	delta, err := box.Changes(context.Background(), 0)
	require.NoError(d, err)
	for m, err := range delta.Messages {
		require.NoError(d, err)
		list = append(list, fmt.Sprint(m.UID, " ", m.Flags))
	}
	return list
}

func (d doveadm) body(mailbox string, uid imap.UID) string {
	d.Helper()
	_, text, _ := strings.Cut(d.run("", "fetch", "text", "mailbox", mailbox, "uid", fmt.Sprint(uid)), "\n")
	return strings.TrimSuffix(text, "\n\f\n")
}

// What one writes the other keeps, there and back: UIDs, UIDVALIDITY, flags, keywords, folders,
// subscriptions, texts; and Dovecot finds nothing to warn of.
func TestDovecotAndBack(t *testing.T) {
	for name, opts := range map[string]Options{"files": {}, "folders": {DirName: dirName}} {
		t.Run(name, func(t *testing.T) { testDovecot(t, opts) })
	}
}

func testDovecot(t *testing.T, opts Options) {
	ctx := context.Background()
	d := newDoveadm(t, opts)
	require.NoError(t, d.store.Create(ctx, "Größe/Sub", nil))
	require.NoError(t, d.store.Subscribe(ctx, "Größe/Sub", true))
	names := []string{imap.Inbox, "Größe/Sub"}
	if opts.DirName != "" {
		names = names[:2]
	}
	var boxes []imap.Mailbox
	for _, name := range names {
		box := openBox(t, d.store, name)
		boxes = append(boxes, box)
		for i := range 6 {
			flags := imap.Flags{}
			if i%2 == 0 {
				flags = imap.NewFlags(imap.FlagSeen, imap.FlagFlagged, imap.Flag(fmt.Sprintf("key%d", i/2)))
			}
			_, err := box.Append(ctx, []imap.NewMessage{{Flags: flags, Body: strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\nFrom me to you\r\nbody\r\n", i))}})
			require.NoError(t, err)
		}
		require.NoError(t, box.Expunge(ctx, imap.NumSetOf[imap.UID](1, 6), false))
	}
	inbox := boxes[0]
	before, err := inbox.State(ctx)
	require.NoError(t, err)
	for i, box := range boxes {
		assert.Equal(t, d.list(box), d.fetch(names[i]))
	}
	assert.Equal(t, "Subject: 1\n\nFrom me to you\nbody\n", d.body("INBOX", 2))
	assert.Contains(t, d.run("", "mailbox", "list", "-s"), "Größe/Sub")
	assert.Contains(t, d.run("", "mailbox", "status", "uidvalidity uidnext", "INBOX"), fmt.Sprintf("uidnext=%d uidvalidity=%d", before.UIDNext, before.UIDValidity))

	// Dovecot's turn.
	d.run("", "flags", "add", `\Answered newkey`, "mailbox", "INBOX", "uid", "2,3")
	d.run("", "flags", "remove", `\Seen`, "mailbox", "INBOX", "uid", "5")
	d.run("Subject: saved\n\nby Dovecot\nFrom me to you\n", "save", "-m", "INBOX")
	d.run("", "expunge", "mailbox", "INBOX", "uid", "4")
	d.run("", "mailbox", "create", "-s", "Neu")
	d.run("", "copy", "Neu", "mailbox", "INBOX", "uid", "2")
	assert.Equal(t, []string{`2 (\Answered newkey)`, `3 (\Answered \Flagged \Seen key1 newkey)`, `5 (\Flagged key2)`, `7 ()`}, d.list(inbox))
	body, err := inbox.Body(ctx, 7)
	require.NoError(t, err)
	text := make([]byte, body.Size())
	_, err = body.ReadAt(text, 0)
	require.NoError(t, err)
	assert.Equal(t, "Subject: saved\r\n\r\nby Dovecot\r\nFrom me to you\r\n", string(text))
	after, err := inbox.State(ctx)
	require.NoError(t, err)
	assert.Equal(t, before.UIDValidity, after.UIDValidity)
	assert.Equal(t, before.ID, after.ID)
	delta, err := inbox.Changes(ctx, before.HighestModSeq)
	require.NoError(t, err)
	assert.Equal(t, "4", delta.Gone.String())
	var found []string
	for info, err := range d.store.Mailboxes(ctx) {
		require.NoError(t, err)
		found = append(found, fmt.Sprint(info.Name, " ", info.Subscribed))
	}
	slices.Sort(found)
	assert.Equal(t, []string{"Größe false", "Größe/Sub true", "INBOX false", "Neu true"}, found)

	// And ours again.
	_, err = inbox.SetFlags(ctx, imap.AllUIDs, imap.FlagOp{Flags: imap.NewFlags("last")}, 0)
	require.NoError(t, err)
	copied, err := inbox.Copy(ctx, imap.NumSetOf[imap.UID](7), "Neu", true)
	require.NoError(t, err)
	assert.Equal(t, []imap.UID{2}, copied.To)
	assert.Equal(t, d.list(inbox), d.fetch("INBOX"))
	assert.Equal(t, d.list(openBox(t, d.store, "Neu")), d.fetch("Neu"))

	// Emptied by either, the mailbox keeps its UIDVALIDITY and UIDNEXT for the other.
	require.NoError(t, inbox.Expunge(ctx, imap.AllUIDs, false))
	status := fmt.Sprintf("messages=0 uidnext=%d uidvalidity=%d", 8, before.UIDValidity)
	assert.Contains(t, d.run("", "mailbox", "status", "messages uidvalidity uidnext", "INBOX"), status)
	d.run("Subject: again\n\nx\n", "save", "-m", "INBOX")
	assert.Equal(t, []string{`8 ()`}, d.list(inbox))
	d.run("", "expunge", "mailbox", "INBOX", "uid", "8")
	after, err = inbox.State(ctx)
	require.NoError(t, err)
	assert.Equal(t, []any{uint32(0), imap.UID(9), before.UIDValidity}, []any{after.Messages, after.UIDNext, after.UIDValidity})
	put(t, inbox, 1, 2, imap.FlagSeen, "last")
	assert.Equal(t, []string{`9 (\Seen last)`}, d.fetch("INBOX"))
}
