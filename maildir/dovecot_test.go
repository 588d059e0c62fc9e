package maildir

import (
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

// doveadm is Debian's Dovecot on the same tree.
type doveadm struct {
	tree
	dir string
}

func newDoveadm(t *testing.T) doveadm {
	if _, err := exec.LookPath("doveadm"); err != nil {
		shared.Missing(t, "doveadm")
	}
	if os.Geteuid() != 0 {
		t.Skip("it changes owners, which takes root")
	}
	d := doveadm{newTree(t), t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "conf"), fmt.Appendf(nil,
		"log_path = %s/log\nmail_location = maildir:%s\nmail_uid = nobody\nmail_gid = nogroup\nfirst_valid_uid = 1\n", d.dir, d.root), 0o644))
	for dir := d.root; dir != "/"; dir = filepath.Dir(dir) {
		if strings.HasPrefix(dir, os.TempDir()+"/") {
			require.NoError(t, os.Chmod(dir, 0o755))
		}
	}
	return d
}

// run runs a command of doveadm as the user whom it lets read mail: the tree changes hands.
func (d doveadm) run(stdin string, args ...string) string {
	d.Helper()
	out, err := exec.Command("chown", "-R", "nobody:nogroup", d.root, d.dir).CombinedOutput()
	require.NoError(d, err, string(out))
	cmd := exec.Command("doveadm", append([]string{"-c", filepath.Join(d.dir, "conf")}, args...)...)
	cmd.Env = append(os.Environ(), "USER=nobody", "HOME="+d.dir)
	cmd.Dir = d.root
	cmd.Stdin = strings.NewReader(stdin)
	out, err = cmd.CombinedOutput()
	require.NoError(d, err, "%s: %s", strings.Join(args, " "), out)
	log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
	require.NotRegexp(d, `Warning|Error|Panic`, string(log))
	return string(out)
}

// fetch returns messages as "uid flags", as tree.list does.
func (d doveadm) fetch(mailbox string) []string {
	d.Helper()
	var list []string
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

// What one writes the other keeps, there and back: UIDs, UIDVALIDITY, flags, keywords, folders,
// subscriptions; and Dovecot finds nothing to warn of.
func TestDovecotAndBack(t *testing.T) {
	d := newDoveadm(t)
	store, err := Open(d.root, nil)
	require.NoError(t, err)
	require.NoError(t, store.Create(d.ctx, "Größe/Sub", nil))
	require.NoError(t, store.Subscribe(d.ctx, "Größe/Sub", true))
	var boxes []*mailbox
	for _, name := range []string{imap.Inbox, "Größe/Sub"} {
		box := d.open(name)
		boxes = append(boxes, box)
		for i := range 6 {
			flags := imap.Flags{}
			if i%2 == 0 {
				flags = imap.NewFlags(imap.FlagSeen, imap.FlagFlagged, imap.Flag(fmt.Sprintf("key%d", i/2)))
			}
			_, err := box.Append(d.ctx, []imap.NewMessage{{Flags: flags, Body: strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\nbody\r\n", i))}})
			require.NoError(t, err)
		}
		require.NoError(t, box.Expunge(d.ctx, imap.NumSetOf[imap.UID](2, 6), false))
	}
	inbox := boxes[0]
	before, err := inbox.State(d.ctx)
	require.NoError(t, err)
	names := []string{"INBOX", "Größe.Sub"}
	for i, box := range boxes {
		assert.Equal(t, d.list(box), d.fetch(names[i]))
	}
	assert.Contains(t, d.run("", "mailbox", "list", "-s"), "Größe.Sub")
	assert.Contains(t, d.run("", "mailbox", "status", "uidvalidity uidnext guid", "INBOX"), fmt.Sprintf("uidnext=%d uidvalidity=%d guid=%s", before.UIDNext, before.UIDValidity, before.ID))

	// Dovecot's turn.
	d.run("", "flags", "add", `\Answered newkey`, "mailbox", "INBOX", "uid", "1,3")
	d.run("", "flags", "remove", `\Seen`, "mailbox", "INBOX", "uid", "5")
	d.run("Subject: saved\n\nby Dovecot\n", "save", "-m", "INBOX")
	d.run("", "expunge", "mailbox", "INBOX", "uid", "4")
	d.run("", "mailbox", "create", "-s", "Neu")
	d.run("", "copy", "Neu", "mailbox", "INBOX", "uid", "1")

	assert.Equal(t, []string{`1 (\Answered \Flagged \Seen key0 newkey)`, `3 (\Answered \Flagged \Seen key1 newkey)`, `5 (\Flagged key2)`, `7 ()`}, d.list(inbox))
	assert.Equal(t, "Subject: saved\r\n\r\nby Dovecot\r\n", d.body(inbox, 7))
	after, err := inbox.State(d.ctx)
	require.NoError(t, err)
	assert.Equal(t, before.UIDValidity, after.UIDValidity)
	assert.Equal(t, before.ID, after.ID)
	delta, err := inbox.Changes(d.ctx, before.HighestModSeq)
	require.NoError(t, err)
	assert.Equal(t, "4", delta.Gone.String())
	var found []string
	for info, err := range store.Mailboxes(d.ctx) {
		require.NoError(t, err)
		found = append(found, fmt.Sprint(info.Name, " ", info.Subscribed))
	}
	slices.Sort(found)
	assert.Equal(t, []string{"Größe false", "Größe/Sub true", "INBOX false", "Neu true"}, found)

	// And ours again: the copy keeps its identity, new keywords their letters.
	_, err = inbox.SetFlags(d.ctx, imap.AllUIDs, imap.FlagOp{Flags: imap.NewFlags("last")}, 0)
	require.NoError(t, err)
	copied, err := inbox.Copy(d.ctx, imap.NumSetOf[imap.UID](7), "Neu", true)
	require.NoError(t, err)
	assert.Equal(t, []imap.UID{2}, copied.To)
	assert.Equal(t, d.list(inbox), d.fetch("INBOX"))
	assert.Equal(t, d.list(d.open("Neu")), d.fetch("Neu"))
}
