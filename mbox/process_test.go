//go:build unix

package mbox

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// worker is another process of ours: it appends, flags, copies and expunges until it is killed.
// What it says was done before it said so.
func worker(root, name string) error {
	ctx := context.Background()
	s, err := Open(root, nil)
	if err != nil {
		return err
	}
	box, err := s.Open(ctx, imap.Inbox)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", name, i)
		body := fmt.Sprintf("X-Id: %s\r\nSubject: x\r\n\r\n%s", id, strings.Repeat("line\r\n", rand.IntN(2000)))
		_, err := box.Append(ctx, []imap.NewMessage{{Body: strings.NewReader(body)}})
		if err != nil {
			return err
		}
		fmt.Println(id)
		drop, err := box.Append(ctx, []imap.NewMessage{{Body: strings.NewReader("X-Drop: x\r\n\r\n" + body)}})
		if err != nil {
			return err
		}
		var flagged imap.UIDSet
		for uid := imap.UID(1); uid < drop.UIDs[0]; uid++ {
			if rand.IntN(5) == 0 {
				flagged.Add(uid)
			}
		}
		op := imap.FlagOp{Action: imap.FlagAction(i % 2), Flags: imap.NewFlags(imap.FlagSeen, imap.Flag(fmt.Sprint("word", i%7)))}
		if _, err := box.SetFlags(ctx, flagged, op, 0); err != nil {
			return err
		}
		if err := box.Expunge(ctx, imap.NumSetOf(drop.UIDs[0]), false); err != nil {
			return err
		}
	}
}

// deliverer is a program that knows locks and no UIDs.
func deliverer(path, name string) error {
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", name, i)
		err := Append(context.Background(), path, nil, &WriterOptions{Dialect: CL2, Location: time.Local},
			Outgoing{Body: strings.NewReader("X-Id: " + id + "\nSubject: delivered\n\nbody\n")})
		if err != nil {
			return err
		}
		fmt.Println(id)
	}
}

// A crowd is processes that run until they are killed, and what they said.
type crowd struct {
	*testing.T
	mu   sync.Mutex
	said []string
	wg   sync.WaitGroup
}

// run starts this binary as a worker until it is killed after a random time.
func (c *crowd) run(ctx context.Context, role, path string) {
	for i := 0; ctx.Err() == nil; i++ {
		life, cancel := context.WithTimeout(ctx, time.Duration(50+rand.IntN(400))*time.Millisecond)
		cmd := exec.CommandContext(life, os.Args[0])
		cmd.Env = append(os.Environ(), "MBOX_TEST_ROLE="+role, "MBOX_TEST_PATH="+path, fmt.Sprintf("MBOX_TEST_NAME=%s%d", role, i))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			c.Error(err)
			cancel()
			return
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.mu.Lock()
			c.said = append(c.said, lines.Text())
			c.mu.Unlock()
		}
		_ = cmd.Wait()
		cancel()
		if stderr.Len() > 0 {
			c.Errorf("%s: %s", role, stderr.String())
			return
		}
	}
}

// Two processes of ours, one that delivers, and Dovecot work on one file, and ours are killed again
// and again: nothing is lost, nothing is there twice, no UID changes, and Dovecot has nothing to
// say. MBOX_TEST_TIME=10m runs it longer.
func TestProcesses(t *testing.T) {
	took := 6 * time.Second
	if s := os.Getenv("MBOX_TEST_TIME"); s != "" {
		var err error
		took, err = time.ParseDuration(s)
		require.NoError(t, err)
	}
	if os.Geteuid() == 0 { // all must be one user: they read each other's locks
		asNobody(t, took)
		return
	}
	d := newDoveadm(t, Options{})
	box := openBox(t, d.store, imap.Inbox)
	put(t, box, 0, 1) // UIDVALIDITY is settled
	d.run("", "fetch", "uid", "mailbox", "INBOX", "all")
	ctx, cancel := context.WithTimeout(context.Background(), took)
	defer cancel()
	c := &crowd{T: t}
	c.wg.Go(func() { c.run(ctx, "worker", d.root) })
	c.wg.Go(func() { c.run(ctx, "other", d.root) })
	c.wg.Go(func() { c.run(ctx, "deliverer", filepath.Join(d.root, inboxFile)) })
	c.wg.Go(func() { // Dovecot
		for i := 0; ctx.Err() == nil; i++ {
			id := fmt.Sprint("dovecot-", i)
			for _, run := range []*exec.Cmd{
				d.command("X-Id: "+id+"\nSubject: saved\n\nbody\n", "save", "-m", "INBOX"),
				d.command("", "flags", "add", `\Flagged dove`, "mailbox", "INBOX", "uid", fmt.Sprintf("%d:*", 1+i*3)),
				d.command("", "expunge", "mailbox", "INBOX", "header", "X-Drop", "x"),
			} {
				// Without a word: a message that it looked for went away meanwhile.
				if out, err := run.CombinedOutput(); err != nil && len(out) > 0 {
					t.Errorf("%v: %s", run.Args, out)
					return
				}
			}
			c.mu.Lock()
			c.said = append(c.said, id)
			c.mu.Unlock()
		}
	})
	uids := make(map[string]imap.UID)
	looks := 0
	for look := true; look; looks++ {
		look = ctx.Err() == nil
		seen := make(map[string]bool)
		delta, err := box.Changes(context.Background(), 0)
		require.NoError(t, err)
		for m, err := range delta.Messages {
			require.NoError(t, err)
			body, err := box.Body(context.Background(), m.UID)
			if err != nil {
				require.ErrorIs(t, err, imap.ErrExpunged)
				continue
			}
			head := make([]byte, min(body.Size(), 100))
			_, err = body.ReadAt(head, 0)
			require.True(t, err == nil || err == io.EOF, "%v", err)
			body.Close()
			id, isID := strings.CutPrefix(strings.SplitN(string(head), "\r\n", 2)[0], "X-Id: ")
			if !isID {
				continue
			}
			require.False(t, seen[id], "%s is there twice", id)
			seen[id] = true
			if was := uids[id]; was != 0 {
				require.Equal(t, was, m.UID, "UID of %s", id)
			}
			uids[id] = m.UID
		}
	}
	c.wg.Wait()
	delta, err := box.Changes(context.Background(), 0)
	require.NoError(t, err)
	left := make(map[imap.UID]bool)
	for m := range delta.Messages {
		left[m.UID] = true
		body, err := box.Body(context.Background(), m.UID)
		require.NoError(t, err)
		text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		require.NoError(t, err)
		if id, isID := strings.CutPrefix(strings.SplitN(string(text), "\r\n", 2)[0], "X-Id: "); isID {
			require.True(t, uids[id] == 0 || uids[id] == m.UID, "UID of %s", id)
			uids[id] = m.UID
		}
		body.Close()
	}
	for _, id := range c.said {
		require.True(t, left[uids[id]], "%s is lost", id)
	}
	require.ElementsMatch(t, d.list(box), d.fetch("INBOX"))
	d.quiet()
	t.Logf("%d messages said to be there, %d looks", len(c.said), looks)
}

// asNobody runs the test as the user whom Dovecot lets read mail.
func asNobody(t *testing.T, took time.Duration) {
	if _, err := exec.LookPath("doveadm"); err != nil {
		shared.Missing(t, "doveadm")
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.Atoi(nobody.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(nobody.Gid)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "mbox")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	program, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	path := filepath.Join(dir, "test")
	require.NoError(t, os.WriteFile(path, program, 0o755))
	cmd := exec.Command(path, "-test.run=^TestProcesses$", "-test.v", "-test.timeout="+(took+2*time.Minute).String())
	cmd.Env = append(os.Environ(), "MBOX_TEST_INNER=1", "HOME="+dir, "TMPDIR=/tmp")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("%s", out)
}
