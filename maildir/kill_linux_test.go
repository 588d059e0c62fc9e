package maildir_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/peertest"
	"github.com/mailblocks/mailblocks/maildir"
)

// childTree and childName make this binary one of the processes that TestProcesses kills.
const (
	childTree = "MAILBLOCKS_MAILDIR_CHILD"
	childName = "MAILBLOCKS_MAILDIR_CHILD_NAME"
)

// killSeconds is how long TestProcesses works: MAILBLOCKS_KILL_SECONDS, or 15.
const killSeconds = "MAILBLOCKS_KILL_SECONDS"

func TestMain(m *testing.M) {
	if root := os.Getenv(childTree); root != "" {
		c := &child{name: os.Getenv(childName), known: make(map[place]string)}
		if err := c.run(context.Background(), root); err != nil {
			fmt.Println("!", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A place is where a message is for good: a UID stands for one message.
type place struct {
	box      string
	validity uint32
	uid      imap.UID
}

// child changes a tree until it is killed. Before and after each change it writes a line:
//
//	? tag                 appends it                + box validity uid tag   did
//	m tag                 moves it                  M box validity uid tag   did: there
//	x tag                 expunges it               X tag                    did
//	u box validity uid tag                          saw it there
//
// It moves and expunges only what bears its name.
type child struct {
	name  string
	boxes map[string]imap.Mailbox
	known map[place]string
	mine  []place
	n     int
}

func (c *child) run(ctx context.Context, root string) error {
	s, err := maildir.Open(root, nil)
	if err != nil {
		return err
	}
	c.boxes = make(map[string]imap.Mailbox)
	for _, name := range []string{imap.Inbox, "Work"} {
		if c.boxes[name], err = s.Open(ctx, name); err != nil {
			return err
		}
	}
	for {
		box := []string{imap.Inbox, "Work"}[rand.IntN(2)]
		if err := c.look(ctx, box); err != nil {
			return fmt.Errorf("look: %w", err)
		}
		switch n := rand.IntN(10); {
		case n < 3 && len(c.mine) < 100:
			err = c.append(ctx, box)
		case n < 6:
			err = c.flag(ctx, box)
		case n < 8:
			err = c.move(ctx)
		default:
			err = c.expunge(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// look lists a mailbox and reads what it has not seen before.
func (c *child) look(ctx context.Context, name string) error {
	box := c.boxes[name]
	d, err := box.Changes(ctx, 0)
	if err != nil {
		return err
	}
	mine := c.mine[:0]
	for _, p := range c.mine {
		if p.box != name {
			mine = append(mine, p)
		}
	}
	c.mine = mine
	for m, err := range d.Messages {
		if err != nil {
			return err
		}
		at := place{name, d.State.UIDValidity, m.UID}
		tag, known := c.known[at]
		if !known {
			if tag, err = subject(ctx, box, m.UID); errors.Is(err, imap.ErrExpunged) {
				continue
			} else if err != nil {
				return err
			}
			c.known[at] = tag
			fmt.Println("u", at.box, at.validity, at.uid, tag)
		}
		if strings.HasPrefix(tag, c.name) {
			c.mine = append(c.mine, at)
		}
	}
	return nil
}

func subject(ctx context.Context, box imap.Mailbox, uid imap.UID) (string, error) {
	b, err := box.Body(ctx, uid)
	if err != nil {
		return "", err
	}
	defer b.Close()
	return subjectOf(io.NewSectionReader(b, 0, b.Size()))
}

func subjectOf(r io.Reader) (string, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	head, body, _ := strings.Cut(string(text), "\n")
	tag := strings.TrimSpace(strings.TrimPrefix(head, "Subject: "))
	if strings.TrimSpace(body) != "body of "+tag {
		return "", fmt.Errorf("a broken message: %q", text)
	}
	return tag, nil
}

func mail(tag string) string { return "Subject: " + tag + "\r\n\r\nbody of " + tag + "\r\n" }

func (c *child) append(ctx context.Context, name string) error {
	var tags []string
	var msgs []imap.NewMessage
	for range 1 + 2*rand.IntN(2) {
		c.n++
		tags = append(tags, fmt.Sprintf("%s-%d-%d", c.name, os.Getpid(), c.n))
		fmt.Println("?", tags[len(tags)-1])
		msgs = append(msgs, imap.NewMessage{Body: strings.NewReader(mail(tags[len(tags)-1]))})
	}
	res, err := c.boxes[name].Append(ctx, msgs)
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	for i, uid := range res.UIDs {
		fmt.Println("+", name, res.UIDValidity, uid, tags[i])
	}
	return nil
}

func (c *child) flag(ctx context.Context, name string) error {
	op := imap.FlagOp{Action: imap.FlagsAdd, Flags: imap.NewFlags(imap.FlagSeen, imap.Flag(fmt.Sprint("key", rand.IntN(5))))}
	if rand.IntN(2) == 0 {
		op.Action = imap.FlagsRemove
	}
	first := imap.UID(1 + rand.IntN(2000))
	_, err := c.boxes[name].SetFlags(ctx, imap.UIDSet{{First: first, Last: first + 500}}, op, 0)
	if err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	return nil
}

// take picks one of the child's messages, which is not there any more then: until its mailbox is looked at again,
// a place of a message that has left would be taken for its own.
func (c *child) take() place {
	i := rand.IntN(len(c.mine))
	at := c.mine[i]
	c.mine = append(c.mine[:i], c.mine[i+1:]...)
	return at
}

func (c *child) move(ctx context.Context) error {
	if len(c.mine) == 0 {
		return nil
	}
	at := c.take()
	dst := map[string]string{imap.Inbox: "Work", "Work": imap.Inbox}[at.box]
	fmt.Println("m", c.known[at])
	copied, err := c.boxes[at.box].Copy(ctx, imap.NumSetOf(at.uid), dst, true)
	if err != nil {
		return fmt.Errorf("move: %w", err)
	}
	for _, uid := range copied.To {
		fmt.Println("M", dst, copied.UIDValidity, uid, c.known[at])
	}
	return nil
}

func (c *child) expunge(ctx context.Context) error {
	if len(c.mine) == 0 {
		return nil
	}
	at := c.take()
	fmt.Println("x", c.known[at])
	if err := c.boxes[at.box].Expunge(ctx, imap.NumSetOf(at.uid), false); err != nil {
		return fmt.Errorf("expunge: %w", err)
	}
	fmt.Println("X", c.known[at])
	return nil
}

// books are what all processes said.
type books struct {
	*testing.T
	mu       sync.Mutex
	there    map[string]bool // acknowledged, and no removal begun
	gone     map[string]bool // its removal was acknowledged
	moving   map[string]bool // a move was begun and not acknowledged: there may be two
	doubled  map[string]bool // that was so before another move: there may be two for good
	tags     map[place]string
	uids     map[string]imap.UID // by tag
	validity map[string]uint32
	lines    int
	history  map[string][]string // what was said of each tag
}

func (b *books) saw(at place, tag string) {
	if old, ok := b.tags[at]; ok {
		assert.Equal(b, old, tag, "%+v is another message", at)
	}
	b.tags[at] = tag
	if v, ok := b.validity[at.box]; ok {
		assert.Equal(b, v, at.validity, "UIDVALIDITY of %s", at.box)
	}
	b.validity[at.box] = at.validity
	if tag[0] == 'C' || tag[0] == 'D' { // never moved
		if old, ok := b.uids[tag]; ok {
			assert.Equal(b, old, at.uid, "%s has another UID", tag)
		}
		b.uids[tag] = at.uid
	}
}

// line takes in a line of a child.
func (b *books) line(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines++
	f := strings.Fields(line)
	if len(f) < 2 || f[0] == "!" {
		b.Errorf("a process ended: %s", line)
		return
	}
	tag := f[len(f)-1]
	if b.history == nil {
		b.history = make(map[string][]string)
	}
	b.history[tag] = append(b.history[tag], line)
	if len(f) == 5 {
		validity, _ := strconv.ParseUint(f[2], 10, 32)
		uid, _ := strconv.ParseUint(f[3], 10, 32)
		b.saw(place{f[1], uint32(validity), imap.UID(uid)}, tag)
	}
	switch f[0] {
	case "+":
		b.there[tag] = true
	case "m":
		b.doubled[tag] = b.doubled[tag] || b.moving[tag]
		b.moving[tag] = true
	case "M":
		delete(b.moving, tag)
	case "x":
		delete(b.there, tag)
	case "X":
		if !b.moving[tag] && !b.doubled[tag] { // else it may have been one of two
			b.gone[tag] = true
		}
	}
}

// TestProcesses has two processes of ours, Dovecot, and a program that renames, delivers and
// deletes as mutt does, work one tree, and kills ours again and again.
func TestProcesses(t *testing.T) {
	seconds := 15
	if s, err := strconv.Atoi(os.Getenv(killSeconds)); err == nil {
		seconds = s
	} else if testing.Short() {
		seconds = 4
	}
	peer := peertest.DovecotMaildir(t, "imap", func(dir string) error {
		s, err := maildir.Open(dir, nil)
		if err != nil {
			return err
		}
		for _, name := range []string{imap.Inbox, "Work"} {
			if name != imap.Inbox {
				if err := s.Create(t.Context(), name, nil); err != nil {
					return err
				}
			}
			box, err := s.Open(t.Context(), name)
			if err != nil {
				return err
			}
			defer box.Close()
			if _, err := box.State(t.Context()); err != nil {
				return err
			}
		}
		return nil
	})
	self := filepath.Join(filepath.Dir(peer.Maildir), "child")
	binary, err := os.Executable()
	require.NoError(t, err)
	program, err := os.ReadFile(binary)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(self, program, 0o755))

	b := &books{T: t, there: make(map[string]bool), gone: make(map[string]bool), moving: make(map[string]bool), doubled: make(map[string]bool),
		tags: make(map[place]string), uids: make(map[string]imap.UID), validity: make(map[string]uint32)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	var wait sync.WaitGroup
	kills := 0
	for _, name := range []string{"A", "B"} {
		wait.Go(func() {
			for ctx.Err() == nil {
				b.child(ctx, self, peer.Maildir, name, time.Duration(200+rand.IntN(1200))*time.Millisecond)
				b.mu.Lock()
				kills++
				b.mu.Unlock()
			}
		})
	}
	wait.Go(func() { b.dovecot(ctx, peer.Addr) })
	wait.Go(func() { b.mutt(ctx, peer.Maildir) })
	wait.Wait()
	if t.Failed() {
		return
	}

	count := make(map[string]int)
	s, err := maildir.Open(peer.Maildir, nil)
	require.NoError(t, err)
	client := dialDovecot(t, peer.Addr)
	for _, name := range []string{imap.Inbox, "Work"} {
		box, err := s.Open(t.Context(), name)
		require.NoError(t, err)
		defer box.Close()
		d, err := box.Changes(t.Context(), 0)
		require.NoError(t, err)
		ours := make(map[imap.UID]string)
		for m, err := range d.Messages {
			require.NoError(t, err)
			tag, err := subject(t.Context(), box, m.UID)
			require.NoError(t, err)
			b.saw(place{name, d.State.UIDValidity, m.UID}, tag)
			ours[m.UID] = tag
			count[tag]++
		}
		// What we wrote as root is not for Dovecot's eyes.
		require.NoError(t, exec.Command("chown", "-R", "nobody:nogroup", peer.Maildir).Run())
		assert.Equal(t, client.list(name), ours, name)
	}
	lost, twice, back := 0, 0, 0
	for tag := range b.there {
		if count[tag] == 0 && !assert.NotZero(t, count[tag], "%s was acknowledged and is lost", tag) {
			lost++
		}
	}
	for tag, n := range count {
		if n > 1 && !assert.True(t, b.moving[tag] || b.doubled[tag], "%s is there %d times", tag, n) {
			twice++
		}
		if !assert.False(t, b.gone[tag], "%s was expunged and is back: %q", tag, b.history[tag]) {
			back++
		}
	}
	log, err := os.ReadFile(filepath.Join(filepath.Dir(peer.Maildir), "log"))
	require.NoError(t, err)
	assert.NotRegexp(t, `Warning|Error|Panic|Fatal`, string(log))
	t.Logf("%d s, %d kills, %d lines, %d places, %d messages left, %d lost, %d doubled, %d back", seconds, kills, b.lines, len(b.tags), len(count), lost, twice, back)
}

// child runs a process of ours and kills it.
func (b *books) child(ctx context.Context, self, root, name string, after time.Duration) {
	nobody, err := user.Lookup("nobody")
	if !assert.NoError(b, err) {
		return
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childTree+"="+root, childName+"="+name)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if !assert.NoError(b, err) || !assert.NoError(b, cmd.Start()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, after)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // half a line was not said
		}
		b.line(strings.TrimSuffix(line, "\n"))
	}
	_ = cmd.Wait()
}

// mutt delivers, renames from new/ to cur/ and to other flags, and deletes what it delivered.
func (b *books) mutt(ctx context.Context, root string) {
	dir := maildir.Dir(root)
	mine := make(map[string]string) // tag by base
	for n := 0; ctx.Err() == nil; n++ {
		if n%5 == 0 {
			tag := fmt.Sprintf("D-%d", n)
			path := filepath.Join(root, "tmp", fmt.Sprintf("%d.%d_%d.mutt", time.Now().Unix(), os.Getpid(), n))
			if !assert.NoError(b, os.WriteFile(path, []byte(strings.ReplaceAll(mail(tag), "\r\n", "\n")), 0o666)) ||
				!assert.NoError(b, os.Chown(path, 65534, 65534)) ||
				!assert.NoError(b, os.Rename(path, filepath.Join(root, "new", filepath.Base(path)))) {
				return
			}
			mine[filepath.Base(path)] = tag
			b.line("+ " + tag)
		}
		for ref, err := range dir.All() {
			if err != nil {
				assert.NoError(b, err)
				return
			}
			if rand.IntN(20) > 0 {
				continue
			}
			if tag := mine[ref.Name.Base]; tag != "" && rand.IntN(4) == 0 {
				b.line("x " + tag)
				if dir.Remove(ref) == nil {
					b.line("X " + tag)
				}
				continue
			}
			letters := ref.Name.Flags()
			switch rand.IntN(3) {
			case 0:
				letters += "S"
			case 1:
				letters = strings.ReplaceAll(letters, "S", "")
			case 2:
				letters += "R"
			}
			if _, err := dir.SetFlags(ref, letters); err != nil && !errors.Is(err, fs.ErrNotExist) {
				assert.NoError(b, err)
				return
			}
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// dovecot works through a session of Dovecot.
func (b *books) dovecot(ctx context.Context, addr string) {
	c := dialDovecot(b.T, addr)
	for n := 0; ctx.Err() == nil && !b.Failed(); n++ {
		name := []string{"INBOX", "Work"}[n%2]
		for uid, tag := range c.list(name) {
			b.mu.Lock()
			b.saw(place{name, c.validity, uid}, tag)
			b.mu.Unlock()
			if strings.HasPrefix(tag, "C") && rand.IntN(5) == 0 {
				b.line("x " + tag)
				c.do(fmt.Sprintf(`UID STORE %d +FLAGS.SILENT (\Deleted)`, uid))
				c.do(fmt.Sprintf("UID EXPUNGE %d", uid))
				b.line("X " + tag)
			}
		}
		c.do(`UID STORE 1:* +FLAGS.SILENT (\Flagged key1)`)
		c.do(`UID STORE 1:* -FLAGS.SILENT (\Flagged key2)`)
		tag := fmt.Sprintf("C-%d", n)
		text := c.do(fmt.Sprintf("APPEND %s {%d+}\r\n%s", name, len(mail(tag)), mail(tag)))
		if m := regexp.MustCompile(`APPENDUID (\d+) (\d+)`).FindStringSubmatch(text); assert.NotNil(b, m, text) {
			b.line(fmt.Sprintf("+ %s %s %s %s", name, m[1], m[2], tag))
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// dovecotClient is a session with Dovecot.
type dovecotClient struct {
	testing.TB
	conn     net.Conn
	r        *bufio.Reader
	n        int
	validity uint32
}

func dialDovecot(t testing.TB, addr string) *dovecotClient {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	c := &dovecotClient{TB: t, conn: conn, r: bufio.NewReader(conn)}
	_, err = c.r.ReadString('\n')
	require.NoError(t, err)
	c.do("LOGIN user secret")
	return c
}

// do sends a command and returns all that is answered, which must end in OK.
func (c *dovecotClient) do(command string) string {
	c.n++
	fmt.Fprintf(c.conn, "%d %s\r\n", c.n, command)
	var text bytes.Buffer
	for {
		line, err := c.r.ReadString('\n')
		text.WriteString(line)
		if err != nil || strings.HasPrefix(line, fmt.Sprint(c.n, " ")) {
			assert.Contains(c, line, " OK ", "%s: %v", command, err)
			return text.String()
		}
	}
}

var (
	fetchedSubject  = regexp.MustCompile(`UID (\d+) BODY\[[^]]*\] \{\d+\}\r\nSubject: (\S+)`)
	selectedAnswers = regexp.MustCompile(`UIDVALIDITY (\d+)`)
)

// list selects a mailbox and returns the subjects.
func (c *dovecotClient) list(name string) map[imap.UID]string {
	text := c.do("SELECT " + name)
	if m := selectedAnswers.FindStringSubmatch(text); assert.NotNil(c, m, text) {
		v, _ := strconv.ParseUint(m[1], 10, 32)
		c.validity = uint32(v)
	}
	tags := make(map[imap.UID]string)
	for _, m := range fetchedSubject.FindAllStringSubmatch(c.do("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])"), -1) {
		uid, _ := strconv.ParseUint(m[1], 10, 32)
		tags[imap.UID(uid)] = m[2]
	}
	return tags
}
