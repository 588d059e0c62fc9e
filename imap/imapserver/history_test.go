package imapserver

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// viewer is a client that keeps its own sequence view from nothing but what it is told,
// and finds any response that contradicts it.
type viewer struct {
	conn    net.Conn
	r       *bufio.Reader
	tag     int
	verb    string // of the command under way
	msgs    []viewed
	expunge bool // EXPUNGE came during the command
	qresync bool

	notified bool // changes may come between commands
	replaces bool // STORE FLAGS is among what sessions do: it takes all keywords away

	// safe is the mod-sequence up to which the client knows of all changes, by the rules of
	// RFC 7162, 6, from what the command under way said.
	safe, seen, code uint64
	validity         string

	own   string            // a keyword that this session alone sets and clears
	owned map[imap.UID]bool // what it made of it, by the answers it got
}

type viewed struct {
	uid    imap.UID // zero: not told yet
	flags  imap.Flags
	known  bool // flags were told
	modSeq uint64
}

// newViewer connects and logs in.
func newViewer(t *testing.T, addr string) *viewer {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	v := &viewer{conn: conn, r: bufio.NewReader(conn), owned: make(map[imap.UID]bool)}
	_, err = v.r.ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, v.do("LOGIN ann secret"))
	return v
}

// do runs a command and follows its responses. A NO is no error.
func (v *viewer) do(command string) error {
	v.tag++
	v.verb = strings.ToUpper(strings.Fields(command)[0])
	v.expunge = false
	if _, err := fmt.Fprintf(v.conn, "t%d %s\r\n", v.tag, command); err != nil {
		return err
	}
	for {
		if err := v.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		line, err := v.r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("t%d ", v.tag)); ok {
			if strings.HasPrefix(rest, "BAD") {
				return fmt.Errorf("%s: %s", command, rest)
			}
			return v.settle(rest)
		}
		if err := v.untagged(line); err != nil {
			return fmt.Errorf("%s: %q: %w", command, line, err)
		}
	}
}

var (
	numbered = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE|RECENT|FETCH \((.*)\))$`)
	fetchUID = regexp.MustCompile(`\bUID (\d+)`)
	fetchMod = regexp.MustCompile(`\bMODSEQ \((\d+)\)`)
	fetchFl  = regexp.MustCompile(`\bFLAGS \(([^)]*)\)`)
	vanished = regexp.MustCompile(`^\* VANISHED ([0-9:,]+)$`)
)

var codeMod = regexp.MustCompile(`\[HIGHESTMODSEQ (\d+)\]`)

// settle works out what the client may rely on after a command.
func (v *viewer) settle(tagged string) error {
	if err := v.takeCode(tagged); err != nil {
		return err
	}
	if v.code > 0 {
		v.safe = v.code
	} else {
		v.safe = max(v.safe, v.seen)
	}
	v.code, v.seen = 0, 0
	return nil
}

func (v *viewer) takeCode(line string) (err error) {
	if m := codeMod.FindStringSubmatch(line); m != nil {
		v.code, err = strconv.ParseUint(m[1], 10, 63)
	}
	return err
}

func (v *viewer) untagged(line string) error {
	if err := v.takeCode(line); err != nil {
		return err
	}
	if m := validityCode.FindStringSubmatch(line); m != nil {
		v.validity = m[1]
	}
	if m := vanished.FindStringSubmatch(line); m != nil {
		spec, err := imap.ParseSetSpec(m[1])
		if err != nil {
			return err
		}
		set := imap.Resolve[imap.UID](spec, 0)
		if slices.Contains([]string{"FETCH", "STORE", "SEARCH"}, v.verb) {
			return fmt.Errorf("numbers changed during %s", v.verb)
		}
		for uid := range set.All() {
			i := slices.IndexFunc(v.msgs, func(m viewed) bool { return m.uid == uid })
			if i < 0 { // one of those whose UID was not told yet: UIDs ascend
				for i = len(v.msgs); i > 0 && (v.msgs[i-1].uid == 0 || v.msgs[i-1].uid > uid); i-- {
				}
			}
			if i == len(v.msgs) || v.msgs[i].uid != uid && v.msgs[i].uid != 0 {
				return fmt.Errorf("uid %d was not there", uid)
			}
			v.msgs = slices.Delete(v.msgs, i, i+1)
		}
		return nil
	}
	m := numbered.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return err
	}
	switch {
	case m[2] == "EXISTS":
		if n < len(v.msgs) || n == len(v.msgs) && v.verb != "SELECT" {
			return fmt.Errorf("there were %d messages", len(v.msgs))
		}
		for len(v.msgs) < n {
			v.msgs = append(v.msgs, viewed{})
		}
	case m[2] == "RECENT":
		if n > len(v.msgs) {
			return fmt.Errorf("there are %d messages", len(v.msgs))
		}
	case m[2] == "EXPUNGE":
		if slices.Contains([]string{"FETCH", "STORE", "SEARCH"}, v.verb) {
			return fmt.Errorf("numbers changed during %s", v.verb)
		}
		if v.qresync {
			return fmt.Errorf("EXPUNGE after ENABLE QRESYNC")
		}
		if n < 1 || n > len(v.msgs) {
			return fmt.Errorf("there are %d messages", len(v.msgs))
		}
		v.msgs = slices.Delete(v.msgs, n-1, n)
	default:
		return v.fetched(n, m[3])
	}
	return nil
}

func (v *viewer) fetched(n int, items string) error {
	if n < 1 || n > len(v.msgs) {
		return fmt.Errorf("there are %d messages", len(v.msgs))
	}
	msg := &v.msgs[n-1]
	if m := fetchUID.FindStringSubmatch(items); m != nil {
		uid, err := strconv.ParseUint(m[1], 10, 32)
		if err != nil {
			return err
		}
		if msg.uid != 0 && msg.uid != imap.UID(uid) {
			return fmt.Errorf("number %d was uid %d", n, msg.uid)
		}
		msg.uid = imap.UID(uid)
	}
	if m := fetchFl.FindStringSubmatch(items); m != nil {
		var flags []imap.Flag
		for _, f := range strings.Fields(m[1]) {
			flags = append(flags, imap.Flag(f))
		}
		now := imap.NewFlags(flags...)
		unasked := !slices.Contains([]string{"FETCH", "STORE", "UID", "SELECT"}, v.verb)
		if m := fetchMod.FindStringSubmatch(items); unasked && msg.known && now.Equal(msg.flags) && (m == nil || m[1] == fmt.Sprint(msg.modSeq)) {
			return fmt.Errorf("told twice")
		}
		msg.flags, msg.known = now, true
	}
	if m := fetchMod.FindStringSubmatch(items); m != nil {
		modSeq, err := strconv.ParseUint(m[1], 10, 63)
		if err != nil {
			return err
		}
		if modSeq < msg.modSeq {
			return fmt.Errorf("the mod-sequence fell from %d", msg.modSeq)
		}
		msg.modSeq = modSeq
		v.seen = max(v.seen, modSeq)
	}
	return nil
}

// step runs one random command.
func (v *viewer) step(rnd *rand.Rand) error {
	flags := []string{`\Seen`, `\Deleted`, `\Flagged`, `\Answered`, "$Junk", "work"}
	flag := flags[rnd.IntN(len(flags))]
	n := len(v.msgs)
	if n == 0 {
		return v.append(rnd)
	}
	first, last := 1+rnd.IntN(n), 1+rnd.IntN(n)
	set := fmt.Sprintf("%d:%d", first, last)
	switch rnd.IntN(18) {
	case 14, 15:
		return v.mark(rnd.IntN(n), rnd.IntN(2) == 0)
	case 16:
		return v.idle()
	case 17:
		return v.do("CHECK")
	case 0, 1:
		return v.append(rnd)
	case 2, 3:
		return v.do("STORE " + set + " " + []string{"+", "-", ""}[rnd.IntN(2+btoi(v.replaces))] + "FLAGS (" + flag + ")")
	case 4:
		if v.notified {
			return v.do("NOOP") // it cannot tell what was said before its STORE
		}
		// What a silent STORE does, the client works out by itself.
		add := rnd.IntN(2) == 0
		sign := map[bool]string{true: "+", false: "-"}[add]
		for i := range v.msgs[min(first, last)-1 : max(first, last)] {
			m := &v.msgs[min(first, last)-1+i]
			if add {
				m.flags = m.flags.With(imap.Flag(flag))
			} else {
				m.flags = m.flags.Without(imap.Flag(flag))
			}
		}
		return v.do("STORE " + set + " " + sign + "FLAGS.SILENT (" + flag + ")")
	case 5:
		if uid := v.msgs[first-1].uid; uid != 0 {
			return v.do(fmt.Sprintf("UID STORE %d:* +FLAGS (%s)", uid, flag))
		}
		return v.do("UID SEARCH ALL")
	case 6:
		return v.do("EXPUNGE")
	case 7:
		return v.do("FETCH " + set + " (UID FLAGS)")
	case 8:
		return v.do("SEARCH UNSEEN")
	case 9:
		return v.do("UID FETCH 1:* (FLAGS)")
	case 10:
		return v.do(fmt.Sprintf("COPY %d INBOX", first))
	case 11:
		return v.do(fmt.Sprintf("MOVE %d INBOX", first))
	case 12:
		return v.do("FETCH " + set + " (UID RFC822.SIZE)")
	default:
		return v.do("NOOP")
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// mark sets or clears the session's own keyword, and remembers it.
func (v *viewer) mark(i int, on bool) error {
	uid := v.msgs[i].uid
	if uid == 0 {
		return v.do("UID FETCH 1:* (FLAGS)")
	}
	sign := map[bool]string{true: "+", false: "-"}[on]
	if err := v.do(fmt.Sprintf("UID STORE %d %sFLAGS (%s)", uid, sign, v.own)); err != nil {
		return err
	}
	v.owned[uid] = on // if the message is still there
	return nil
}

// idle enters IDLE and leaves it at once.
func (v *viewer) idle() error {
	v.tag++
	v.verb = "IDLE"
	if _, err := fmt.Fprintf(v.conn, "t%d IDLE\r\n", v.tag); err != nil {
		return err
	}
	for done := false; ; {
		if err := v.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		line, err := v.r.ReadString('\n')
		line = strings.TrimSuffix(line, "\r\n")
		switch {
		case err != nil:
			return fmt.Errorf("IDLE: %w", err)
		case strings.HasPrefix(line, "+ ") && !done:
			done = true
			if _, err := io.WriteString(v.conn, "DONE\r\n"); err != nil {
				return err
			}
		case strings.HasPrefix(line, fmt.Sprintf("t%d OK", v.tag)):
			return v.settle(line)
		default:
			if err := v.untagged(line); err != nil {
				return fmt.Errorf("IDLE: %q: %w", line, err)
			}
		}
	}
}

func (v *viewer) append(rnd *rand.Rand) error {
	body := fmt.Sprintf("Subject: %d\r\n\r\n", rnd.IntN(1000))
	return v.do(fmt.Sprintf("APPEND INBOX (\\Seen) {%d+}\r\n%s", len(body), body))
}

// TestIdleTells has a session wait in IDLE while another changes things.
func TestIdleTells(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", text("Subject: one\n\n"))
	idle, other := ts.session("ann"), ts.session("ann")
	play(t, idle, `
C: a SELECT INBOX
S* \* .*
S~ a OK .*
C: b IDLE
S: + idling
`)
	play(t, other, `
C: a SELECT INBOX
S* \* .*
S~ a OK .*
C: b STORE 1 +FLAGS (\Flagged work)
S~ \* FLAGS .*
S~ \* OK \[PERM.*
S~ \* 1 FETCH .*
S~ b OK .*
`)
	play(t, idle, `
S~ \* FLAGS .*work.*
S~ \* OK \[PERM.*
S: * 1 FETCH (FLAGS (\Flagged work \Recent))
`)
	ts.fill("ann", "INBOX", text("Subject: two\n\n")) // behind the server's back
	play(t, idle, "S: * 2 EXISTS\nS: * 2 RECENT")
	play(t, other, "C: c STORE 1 +FLAGS.SILENT (\\Deleted)\nS* \\* .*\nS~ c OK .*\nC: d EXPUNGE\nS* \\* .*\nS~ d OK .*")
	play(t, idle, `
S* \* 1 FETCH .*
S: * 1 EXPUNGE
S: * 1 RECENT
C: DONE
S~ b OK .*
C: c FETCH 1 FLAGS
S: * 1 FETCH (FLAGS (\Recent))
S~ c OK .*
`)
}
