package imapserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/maildir"
)

// kinds of sessions: what they do after login, and whether they compress.
var kinds = []struct {
	commands string
	compress bool
}{
	{"", false},
	{"ENABLE CONDSTORE", false},
	{"ENABLE QRESYNC", false},
	{"", true},
	{"ENABLE IMAP4rev2", false},
	{"ENABLE QRESYNC IMAP4rev2", true},
	{"NOTIFY SET (selected-delayed (MessageNew MessageExpunge FlagChange))", false},
	{"ENABLE UTF8=ACCEPT", false},
}

// viewerOf connects a session of a kind and selects the Inbox.
func viewerOf(t *testing.T, addr string, i int) *viewer {
	kind := kinds[i%len(kinds)]
	v := newViewer(t, addr)
	v.own = fmt.Sprintf("own%d", i)
	if kind.compress {
		require.NoError(t, v.do("COMPRESS DEFLATE"))
		z := compressed(t, &byteConn{v.conn, v.r})
		v.conn, v.r = z, bufio.NewReader(z)
	}
	if kind.commands != "" {
		require.NoError(t, v.do(kind.commands))
	}
	require.NoError(t, v.do("SELECT INBOX"))
	require.NoError(t, v.do("UID FETCH 1:* (FLAGS)"))
	v.notified = strings.Contains(kind.commands, "NOTIFY")
	v.qresync = strings.Contains(kind.commands, "QRESYNC")
	return v
}

func overMaildir(root string) func(*Server) {
	return func(s *Server) {
		s.Login = func(context.Context, string) (imap.Store, error) { return maildir.Open(root, nil) }
	}
}

// TestRandomHistory has sessions do random things to one mailbox, at once. At checkpoints
// each session's view, made of what it was told, must be what the mailbox holds.
func TestRandomHistory(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			randomHistory(t, seed, 8, 40, newServer(t, nil).addr)
		})
	}
}

func TestRandomHistoryOverMaildir(t *testing.T) {
	randomHistory(t, 1, 5, 20, newServer(t, overMaildir(t.TempDir())).addr)
}

// TestRandomHistoryOfTwoProcesses does the same through two servers, one in another process,
// that know of each other only through the Maildir that both of them serve.
func TestRandomHistoryOfTwoProcesses(t *testing.T) {
	root := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerForAnother$")
	cmd.Env = append(os.Environ(), "MAILBLOCKS_TEST_MAILDIR="+root)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		require.NoError(t, cmd.Wait())
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	randomHistory(t, 1, 4, 12, newServer(t, overMaildir(root)).addr, strings.TrimSpace(line))
}

// TestServerForAnother is the other process: it serves until its standard input ends.
func TestServerForAnother(t *testing.T) {
	root := os.Getenv("MAILBLOCKS_TEST_MAILDIR")
	if root == "" {
		t.Skip("no other test asked for it")
	}
	fmt.Println(newServer(t, overMaildir(root)).addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func randomHistory(t *testing.T, seed uint64, rounds, steps int, addrs ...string) {
	viewers := make([]*viewer, len(kinds))
	for i := range viewers {
		viewers[i] = viewerOf(t, addrs[i%len(addrs)], i)
		viewers[i].replaces = seed%2 == 0
	}
	var known *snapshot
	for round := range rounds {
		var wg sync.WaitGroup
		errs := make([]error, len(viewers))
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
		for i, err := range errs {
			require.NoError(t, err, "session %d", i)
		}
		var lost []*snapshot // by sessions that just go, wherever they are
		for i, v := range viewers {
			if v.qresync {
				lost = append(lost, reconnected(t, addrs[i%len(addrs)], v.snapshot()))
			}
		}
		checkpoint(t, viewers)
		for _, s := range lost {
			require.Equal(t, flagsOf(viewers[0].msgs), s.flags, "after a lost connection")
		}
		known = resynchronised(t, addrs[round%len(addrs)], known, viewers[0].msgs)
	}
}

// checkpoint brings all views up to date and compares them.
func checkpoint(t *testing.T, viewers []*viewer) {
	t.Helper()
	for _, v := range viewers {
		require.NoError(t, v.do("NOOP"))
	}
	var want []viewed
	modSeqs := make(map[imap.UID]uint64)
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
			if on, did := v.owned[m.uid]; did && !v.replaces {
				require.Equal(t, on, m.flags.Has(imap.Flag(v.own)), "session %d: its keyword on uid %d", i, m.uid)
			}
			if m.modSeq != 0 {
				if seq := modSeqs[m.uid]; seq != 0 {
					require.Equal(t, seq, m.modSeq, "session %d: mod-sequence of uid %d", i, m.uid)
				}
				modSeqs[m.uid] = m.modSeq
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

// snapshot is what a client keeps of a mailbox between connections.
type snapshot struct {
	validity, modSeq string
	flags            map[imap.UID]string
	below            imap.UID // messages from it on were not all fetched
}

// snapshot returns what a client knows at any moment.
func (v *viewer) snapshot() *snapshot {
	s := &snapshot{validity: v.validity, modSeq: fmt.Sprint(v.safe), flags: make(map[imap.UID]string), below: 1}
	for _, m := range v.msgs {
		if m.uid == 0 || !m.known {
			break
		}
		s.flags[m.uid] = flagsOf([]viewed{m})[m.uid]
		s.below = m.uid + 1
	}
	return s
}

// flagsOf returns flags by UID, without \Recent, which is a session's own.
func flagsOf(msgs []viewed) map[imap.UID]string {
	out := make(map[imap.UID]string)
	for _, m := range msgs {
		out[m.uid] = m.flags.String()
	}
	return out
}

var (
	validityCode = regexp.MustCompile(`^\* OK \[UIDVALIDITY (\d+)\]`)
	modSeqCode   = regexp.MustCompile(`^\* OK \[HIGHESTMODSEQ (\d+)\]`)
	earlier      = regexp.MustCompile(`^\* VANISHED \(EARLIER\) ([0-9:,]+)$`)
)

// resynchronised connects anew with what was known at an earlier checkpoint, and is told all
// that happened since (RFC 7162, 3.2.5): it then knows what the sessions know that stayed.
func resynchronised(t *testing.T, addr string, known *snapshot, want []viewed) *snapshot {
	t.Helper()
	next := reconnected(t, addr, known)
	is := flagsOf(want)
	if known != nil {
		require.Equal(t, is, next.flags, "after resynchronisation")
	}
	next.flags = is
	return next
}

// reconnected returns what a client knows that knew something, or nothing, and connected again.
func reconnected(t *testing.T, addr string, known *snapshot) *snapshot {
	t.Helper()
	v := newViewer(t, addr)
	defer v.conn.Close()
	require.NoError(t, v.do("ENABLE QRESYNC"))
	command := "SELECT INBOX"
	next := &snapshot{flags: make(map[imap.UID]string)}
	if known != nil {
		maps.Copy(next.flags, known.flags)
		command += fmt.Sprintf(" (QRESYNC (%s %s))", known.validity, known.modSeq)
	}
	if known != nil && known.below > 0 { // the client fetches what is new to it
		command += fmt.Sprintf("\r\nr UID FETCH %d:* (FLAGS)", known.below)
	} else {
		command += "\r\nr NOOP"
	}
	_, err := fmt.Fprintf(v.conn, "q %s\r\n", command)
	require.NoError(t, err)
	for {
		line, err := v.r.ReadString('\n')
		require.NoError(t, err)
		line = strings.TrimSuffix(line, "\r\n")
		if m := validityCode.FindStringSubmatch(line); m != nil {
			next.validity = m[1]
		} else if m := modSeqCode.FindStringSubmatch(line); m != nil {
			next.modSeq = m[1]
		} else if m := earlier.FindStringSubmatch(line); m != nil {
			spec, err := imap.ParseSetSpec(m[1])
			require.NoError(t, err)
			for uid := range imap.Resolve[imap.UID](spec, 0).All() {
				delete(next.flags, uid)
			}
		} else if m := fetchFl.FindStringSubmatch(line); m != nil && strings.Contains(line, " FETCH ") {
			uid, err := strconv.ParseUint(fetchUID.FindStringSubmatch(line)[1], 10, 32)
			require.NoError(t, err)
			var flags []imap.Flag
			for _, f := range strings.Fields(m[1]) {
				flags = append(flags, imap.Flag(f))
			}
			next.flags[imap.UID(uid)] = imap.NewFlags(flags...).String()
		} else if strings.HasPrefix(line, "q ") {
			require.True(t, strings.HasPrefix(line, "q OK"), line)
		} else if strings.HasPrefix(line, "r ") {
			require.True(t, strings.HasPrefix(line, "r OK"), line)
			break
		}
	}
	return next
}
