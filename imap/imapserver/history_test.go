package imapserver

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/maildir"
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
}

type viewed struct {
	uid    imap.UID // zero: not told yet
	flags  imap.Flags
	known  bool // flags were told
	modSeq uint64
}

func (ts *testServer) viewer(user string) *viewer {
	conn := ts.dial()
	v := &viewer{conn: conn, r: bufio.NewReader(conn)}
	_, err := v.r.ReadString('\n')
	require.NoError(ts.t, err)
	require.NoError(ts.t, v.do("LOGIN "+user+" secret"))
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
			return nil
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

func (v *viewer) untagged(line string) error {
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
		if n < len(v.msgs) {
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
		msg.flags, msg.known = imap.NewFlags(flags...), true
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
	switch rnd.IntN(14) {
	case 0, 1:
		return v.append(rnd)
	case 2, 3:
		return v.do("STORE " + set + " " + []string{"+", "-", ""}[rnd.IntN(3)] + "FLAGS (" + flag + ")")
	case 4:
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

func (v *viewer) append(rnd *rand.Rand) error {
	body := fmt.Sprintf("Subject: %d\r\n\r\n", rnd.IntN(1000))
	return v.do(fmt.Sprintf("APPEND INBOX (\\Seen) {%d+}\r\n%s", len(body), body))
}

// TestRandomHistory has sessions do random things to one mailbox, at once. At checkpoints
// each session's view, made of what it was told, must be what the mailbox holds.
func TestRandomHistory(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			randomHistory(t, seed, 12, 40, newServer(t, nil))
		})
	}
}

// TestRandomHistoryOfTwoServers does the same through two servers that know of each other
// only through the Maildir that both of them serve.
func TestRandomHistoryOfTwoServers(t *testing.T) {
	root := t.TempDir()
	overMaildir := func(s *Server) {
		s.Login = func(context.Context, string) (imap.Store, error) { return maildir.Open(root, nil) }
	}
	randomHistory(t, 1, 5, 15, newServer(t, overMaildir), newServer(t, overMaildir))
}

func randomHistory(t *testing.T, seed uint64, rounds, steps int, servers ...*testServer) {
	const sessions = 6
	viewers := make([]*viewer, sessions)
	for i := range viewers {
		v := servers[i%len(servers)].viewer("ann")
		if i/2%3 == 1 {
			require.NoError(t, v.do("ENABLE CONDSTORE"))
		}
		if i/2%3 == 2 {
			require.NoError(t, v.do("ENABLE QRESYNC"))
		}
		require.NoError(t, v.do("SELECT INBOX"))
		require.NoError(t, v.do("UID FETCH 1:* (FLAGS)"))
		v.qresync = i/2%3 == 2
		viewers[i] = v
	}
	for round := range rounds {
		var wg sync.WaitGroup
		errs := make([]error, sessions)
		for i, v := range viewers {
			rnd := rand.New(rand.NewPCG(seed, uint64(round*100+i)))
			wg.Go(func() {
				for range steps {
					if errs[i] = v.step(rnd); errs[i] != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		checkpoint(t, viewers)
	}
}

// checkpoint brings all views up to date and compares them.
func checkpoint(t *testing.T, viewers []*viewer) {
	t.Helper()
	for _, v := range viewers {
		require.NoError(t, v.do("NOOP"))
	}
	var want []viewed
	for i, v := range viewers {
		told := slices.Clone(v.msgs)
		require.NoError(t, v.do("UID FETCH 1:* (FLAGS)"))
		require.Len(t, v.msgs, len(told), "session %d: nothing happened since NOOP", i)
		for k, m := range v.msgs {
			require.NotZero(t, m.uid, "session %d: message %d was not fetched", i, k+1)
			if told[k].known {
				require.Equal(t, m.flags.String(), told[k].flags.String(), "session %d: flags of uid %d as it was told before", i, m.uid)
			}
			if told[k].uid != 0 {
				require.Equal(t, m.uid, told[k].uid)
			}
		}
		if i == 0 {
			want = v.msgs
			continue
		}
		require.Len(t, v.msgs, len(want), "session %d has as many messages as session 0", i)
		for k := range want {
			require.Equal(t, want[k].uid, v.msgs[k].uid, "session %d", i)
			require.Equal(t, want[k].flags.String(), v.msgs[k].flags.String(), "session %d", i)
		}
	}
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
