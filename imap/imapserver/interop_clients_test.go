package imapserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// clientServer is a server with ann's mail in it: 60 messages in the Inbox, of which each third
// is flagged, and 5 in Archive/2026. It notes which commands went well.
type clientServer struct {
	*testServer
	port string
	mu   sync.Mutex
	done map[string]bool
}

const clientMails = 60

func newClientServer(t *testing.T) *clientServer {
	s := &clientServer{done: map[string]bool{}}
	s.testServer = newServer(t, func(srv *Server) {
		srv.Trace = &Trace{CommandDone: func(_ context.Context, command, result string, _ time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.done[command] = s.done[command] || result == "OK"
		}}
	})
	var err error
	_, s.port, err = net.SplitHostPort(s.addr)
	require.NoError(t, err)
	for i := range clientMails {
		m := text(clientMail(i))
		if i%3 == 0 {
			m.Flags = imap.NewFlags(imap.FlagFlagged)
		}
		s.fill("ann", "INBOX", m)
	}
	for i := range 5 {
		s.fill("ann", "Archive/2026", text(clientMail(100+i)))
	}
	return s
}

func clientMail(i int) string {
	return fmt.Sprintf("From: Ann <ann@example.org>\nTo: bob@example.net\nDate: Mon, 05 Jan 2026 10:%02d:00 +0000\nMessage-ID: <%d@example.org>\nSubject: number %d\n"+
		"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nbody %d\n--b\nContent-Type: application/octet-stream; name=\"x.bin\"\nContent-Transfer-Encoding: base64\n\nAAEC\n--b--\n", i%60, i, i, i)
}

func (s *clientServer) ok(command string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done[command]
}

// messages returns what is in a user's mailbox: subject and flags.
func (s *clientServer) messages(t *testing.T, user, box string) map[string]imap.Flags {
	mb, err := s.accounts.storage(user).Open().Open(t.Context(), box)
	require.NoError(t, err)
	defer mb.Close()
	d, err := mb.Changes(t.Context(), 0)
	require.NoError(t, err)
	all := map[string]imap.Flags{}
	for m, err := range d.Messages {
		require.NoError(t, err)
		body, err := mb.Body(t.Context(), m.UID)
		require.NoError(t, err)
		b := make([]byte, body.Size())
		_, err = body.ReadAt(b, 0)
		require.NoError(t, err)
		body.Close()
		_, subject, _ := strings.Cut(string(b), "Subject: ")
		subject, _, _ = strings.Cut(subject, "\r\n")
		all[subject] = m.Flags
	}
	return all
}

func writeFile(t *testing.T, name, text string) string {
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestOfflineIMAP(t *testing.T) {
	offlineimap := peer(t, "offlineimap")
	s := newClientServer(t)
	dir := t.TempDir()
	rc := writeFile(t, filepath.Join(dir, "rc"), fmt.Sprintf(`
[general]
accounts = a
metadata = %[1]s/meta
ui = quiet
[Account a]
localrepository = l
remoterepository = r
[Repository l]
type = Maildir
localfolders = %[1]s/mail
sep = /
[Repository r]
type = IMAP
remotehost = 127.0.0.1
remoteport = %[2]s
remoteuser = ann
remotepass = secret
ssl = no
starttls = no
auth_mechanisms = PLAIN
`, dir, s.port))
	files := func() (all []string) {
		for _, sub := range []string{"new", "cur"} {
			found, err := filepath.Glob(filepath.Join(dir, "mail/INBOX", sub, "*"))
			require.NoError(t, err)
			all = append(all, found...)
		}
		return all
	}
	runPeer(t, offlineimap, "-o", "-c", rc)
	require.Len(t, files(), clientMails)
	more, err := filepath.Glob(filepath.Join(dir, "mail/Archive/2026/*/*"))
	require.NoError(t, err)
	require.Len(t, more, 5)

	// A message deleted, one seen and one written here; one more there.
	all := files()
	require.NoError(t, os.Remove(all[0]))
	base, _, _ := strings.Cut(filepath.Base(all[1]), ":")
	require.NoError(t, os.Rename(all[1], filepath.Join(dir, "mail/INBOX/cur", base+":2,S")))
	writeFile(t, filepath.Join(dir, "mail/INBOX/new/1.M1P1.h"), "From: a@example.org\nSubject: from here\n\nx\n")
	s.fill("ann", "INBOX", text("Subject: from there\n\nx\n"))
	runPeer(t, offlineimap, "-o", "-c", rc)
	there := s.messages(t, "ann", "INBOX")
	assert.Len(t, there, clientMails+1)
	assert.Contains(t, there, "from here")
	seen := 0
	for _, flags := range there {
		if flags.Has(imap.FlagSeen) {
			seen++
		}
	}
	assert.Equal(t, 1, seen)
	assert.Len(t, files(), clientMails+1)
}

// InterIMAP keeps two servers alike by QRESYNC; both are ours, one compressed.
func TestInterIMAP(t *testing.T) {
	interimap := peer(t, "interimap")
	s := newClientServer(t)
	s.fill("bob", "INBOX", text("Subject: bob's own\n\nx\n"))
	dir := t.TempDir()
	rc := writeFile(t, filepath.Join(dir, "rc"), fmt.Sprintf(`
database = %[1]s/db
list-mailbox = *
[local]
type = imap
host = 127.0.0.1
port = %[2]s
STARTTLS = NO
auth = PLAIN
username = ann
password = secret
compress = YES
null-stderr = NO
[remote]
type = imap
host = 127.0.0.1
port = %[2]s
STARTTLS = NO
auth = PLAIN
username = bob
password = secret
compress = NO
`, dir, s.port))
	t.Setenv("XDG_DATA_HOME", dir)
	runPeer(t, interimap, "--config="+rc, "--quiet")
	require.Len(t, s.messages(t, "bob", "INBOX"), clientMails+1)
	require.Equal(t, s.messages(t, "ann", "INBOX"), s.messages(t, "bob", "INBOX"))
	require.Len(t, s.messages(t, "bob", "Archive/2026"), 5)
	assert.True(t, s.ok("COMPRESS"))

	// Flags and expunges on both sides.
	for user, change := range map[string]func(mb imap.Mailbox) error{
		"ann": func(mb imap.Mailbox) error {
			_, err := mb.SetFlags(t.Context(), imap.UIDSet{{First: 1, Last: 10}}, imap.FlagOp{Action: imap.FlagsAdd, Flags: imap.NewFlags(imap.FlagSeen, "$Work")}, 0)
			return err
		},
		"bob": func(mb imap.Mailbox) error {
			return mb.Expunge(t.Context(), imap.UIDSet{{First: 30, Last: 40}}, false)
		},
	} {
		mb, err := s.accounts.storage(user).Open().Open(t.Context(), "INBOX")
		require.NoError(t, err)
		require.NoError(t, change(mb))
		mb.Close()
	}
	runPeer(t, interimap, "--config="+rc, "--quiet")
	ann := s.messages(t, "ann", "INBOX")
	assert.Len(t, ann, clientMails+1-11)
	assert.Equal(t, ann, s.messages(t, "bob", "INBOX"))
}

func TestIMAPFilter(t *testing.T) {
	imapfilter := peer(t, "imapfilter")
	s := newClientServer(t)
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	rc := writeFile(t, filepath.Join(dir, "rc.lua"), fmt.Sprintf(`
options.timeout = 60
options.create = true
options.starttls = false
a = IMAP { server = "127.0.0.1", port = %s, username = "ann", password = "secret" }
a.INBOX:is_flagged():mark_seen()
a.INBOX:contain_subject("number 1"):move_messages(a["Sorted"])
twenty = a.INBOX:match_body("body 2[0-9]") * a.INBOX:is_unflagged()
twenty:add_flags({ "$Twenty" })
a.INBOX:contain_subject("number 59"):delete_messages()
`, s.port))
	runPeer(t, imapfilter, "-c", rc)
	sorted := s.messages(t, "ann", "Sorted")
	assert.Len(t, sorted, 11)
	inbox := s.messages(t, "ann", "INBOX")
	assert.Len(t, inbox, clientMails-11-1)
	assert.True(t, inbox["number 3"].Has(imap.FlagSeen))
	assert.True(t, inbox["number 22"].Has("$Twenty"))
	assert.False(t, inbox["number 24"].Has("$Twenty"), "it is flagged")
}

const imapClientScript = `
use strict; use Mail::IMAPClient; use Mail::IMAPClient::BodyStructure;
my $c = Mail::IMAPClient->new(Server => "127.0.0.1", Port => $ARGV[0], User => "ann", Password => "secret", Uid => 1, Compress => 0) or die "$@";
sub ok { my ($what, @got) = @_; die "$what: " . $c->LastError unless defined $got[0]; return @got }
ok("folders", $c->folders);
die "folders" unless grep { $_ eq "Archive/2026" } $c->folders;
ok("select", $c->select("INBOX"));
die "count" unless $c->message_count == 60;
my @flagged = ok("search", $c->search("FLAGGED")); die "flagged: @flagged" unless @flagged == 20;
my $s = $c->get_bodystructure($flagged[0]) or die "structure"; my @parts = $s->parts; die "type" unless $s->bodytype eq "MULTIPART" && @parts == 2;
my $e = $c->get_envelope($flagged[0]) or die "envelope"; die "subject" unless $e->subject eq "number 0";
die "text" unless $c->message_string($flagged[0]) =~ /body 0\r\n/;
my @sorted = ok("sort", $c->sort("REVERSE SUBJECT", "UTF-8", "ALL")); die "sort" unless @sorted == 60;
my $threads = $c->thread("REFERENCES", "UTF-8", "ALL") or die "thread"; die "threads" unless @$threads == 60;
ok("append", $c->append_string("Sent", "Subject: sent\r\n\r\nx\r\n", "\\Seen")) if $c->create("Sent");
ok("flags", $c->set_flag("\$Label1", $flagged[1]));
ok("copy", $c->copy("Sent", $flagged[1])); ok("move", $c->move("Sent", $flagged[2])); ok("expunge", $c->expunge);
my $quota = $c->quota("INBOX"); my @acl = $c->getacl("INBOX");
ok("status", $c->status("Sent", "MESSAGES")); die "sent" unless $c->message_count("Sent") == 3;
ok("idle", my $tag = $c->idle); ok("done", $c->done($tag));
ok("hashes", my $h = $c->fetch_hash("FLAGS", "RFC822.SIZE")); die "hash" unless keys %$h == 59;
$c->logout; print "done";
`

const imapTalkScript = `
use strict; use Mail::IMAPTalk;
my $c = Mail::IMAPTalk->new(Server => "127.0.0.1", Port => $ARGV[0], Username => "ann", Password => "secret", Uid => 1) or die "$@";
sub ok { my ($what, $got) = @_; die "$what: " . $c->get_last_error unless $got; return $got }
die "capabilities" unless $c->capability->{condstore} && $c->capability->{qresync};
ok("select", $c->select("INBOX")); die "exists" unless $c->get_response_code("exists") == 60;
my $found = ok("search", scalar $c->search("not", "flagged")); die "found" unless @$found == 40;
my $f = ok("fetch", scalar $c->fetch("1:*", "(uid flags envelope bodystructure modseq)")); die "fetch" unless keys %$f == 60;
die "envelope " . join(",", %{$f->{1}{envelope}}) unless $f->{1}{envelope}{Subject} eq "number 0" && $f->{1}{envelope}{From} =~ /ann\@example.org/;
die "structure" unless @{$f->{1}{bodystructure}{"MIME-Subparts"}} == 2;
ok("sort", $c->sort("(subject)", "utf-8", "all")); ok("thread", $c->thread("references", "us-ascii", "all"));
ok("esearch", $c->_imap_cmd("uid search", 0, "esearch", "return", "(min max count)", "all"));
ok("store", $c->store("1:5", "+flags", "(\\seen)"));
ok("create", $c->create("Drafts/two")); ok("copy", $c->copy("1:3", "Drafts/two")); ok("unselect", $c->unselect);
ok("status", my $st = scalar $c->status("Drafts/two", "(messages uidnext highestmodseq)")); die "status" unless $st->{messages} == 3;
ok("append", $c->append("INBOX", { Literal => "Subject: x\r\n\r\nx\r\n" }));
ok("metadata", $c->setmetadata("INBOX", "/private/comment", "hello")); my $m = ok("get", $c->getmetadata("INBOX", "/private/comment"));
ok("acl", $c->getacl("INBOX")); ok("list", $c->list("", "*")); $c->logout; print "done";
`

func TestPerlClients(t *testing.T) {
	perl := peer(t, "perl")
	for module, script := range map[string]string{"Mail::IMAPClient": imapClientScript, "Mail::IMAPTalk": imapTalkScript} {
		t.Run(module, func(t *testing.T) {
			if exec.Command(perl, "-M"+module, "-e", "1").Run() != nil {
				shared.Missing(t, module)
			}
			s := newClientServer(t)
			require.Equal(t, "done", runPeer(t, perl, "-w", "-e", script, s.port))
		})
	}
}

// mutt and neomutt want a terminal, which script(1) is.
func TestMutt(t *testing.T) {
	script := peer(t, "script")
	for _, mutt := range []string{"mutt", "neomutt"} {
		t.Run(mutt, func(t *testing.T) {
			peer(t, mutt)
			s := newClientServer(t)
			dir := t.TempDir()
			rc := writeFile(t, filepath.Join(dir, "rc"), fmt.Sprintf(`
set imap_user=ann imap_pass=secret imap_authenticators="plain" ssl_starttls=no ssl_force_tls=no imap_condstore=yes imap_qresync=yes
set mbox_type=Maildir folder=%[1]s spoolfile=%[1]s/none confirmappend=no confirmcreate=no delete=yes quit=yes wait_key=no header_cache=%[1]s/cache
push "<tag-pattern>~s number<enter><tag-prefix><copy-message>=out<enter><untag-pattern>.<enter><delete-pattern>~F<enter><sync-mailbox><exit>"
`, dir))
			runPeer(t, script, "-qec", "TERM=vt100 "+mutt+" -n -F "+rc+" -f imap://127.0.0.1:"+s.port+"/INBOX", "/dev/null")
			files, err := filepath.Glob(filepath.Join(dir, "out/*/*"))
			require.NoError(t, err)
			assert.Len(t, files, clientMails)
			assert.Len(t, s.messages(t, "ann", "INBOX"), clientMails*2/3, "what was flagged was deleted")
		})
	}
}

const imapFlowScript = `
const { ImapFlow } = require('imapflow');
const assert = require('assert');
(async () => {
  const c = new ImapFlow({ host: '127.0.0.1', port: +process.argv[1], secure: false, doSTARTTLS: false, auth: { user: 'ann', pass: 'secret' }, logger: false, qresync: true });
  await c.connect();
  const lock = await c.getMailboxLock('INBOX');
  try {
    assert.strictEqual(c.mailbox.exists, 60);
    const all = [];
    for await (const m of c.fetch('1:*', { uid: true, flags: true, envelope: true, bodyStructure: true, source: true, labels: false, threadId: false })) all.push(m);
    assert.strictEqual(all.length, 60);
    assert.strictEqual(all[7].envelope.subject, 'number 7');
    assert.ok(all[7].source.toString().includes('body 7\r\n'));
    assert.strictEqual(all[7].bodyStructure.childNodes.length, 2);
    assert.strictEqual((await c.search({ flagged: true })).length, 20);
    await c.messageFlagsAdd('1:3', ['\\Seen', '$X']);
    await c.mailboxCreate('Ünï/Box');
    assert.strictEqual((await c.messageCopy('1:3', 'Ünï/Box')).uidMap.size, 3);
    await c.messageMove('4', 'Ünï/Box');
    await c.messageDelete('5');
    const d = await c.download('1', '2');
    const chunks = []; for await (const x of d.content) chunks.push(x);
    assert.deepStrictEqual([...Buffer.concat(chunks)], [0, 1, 2]);
    const a = await c.append('INBOX', 'Subject: appended\r\n\r\nx\r\n', ['\\Draft']);
    assert.ok(a.uid > 60);
  } finally { lock.release(); }
  const st = await c.status('Ünï/Box', { messages: true, uidNext: true, highestModseq: true });
  assert.strictEqual(st.messages, 4);
  assert.ok((await c.list()).some(b => b.path === 'Archive/2026'));
  await c.getQuota('INBOX');
  await c.logout();
  console.log('done');
})().catch(e => { console.error(e); process.exit(1); });
`

func TestImapFlow(t *testing.T) {
	node := peer(t, "node")
	if exec.Command(node, "-e", "require('imapflow')").Run() != nil {
		t.Skip("imapflow is not installed (npm), or not in NODE_PATH")
	}
	s := newClientServer(t)
	require.Equal(t, "done\n", runPeer(t, node, "-e", imapFlowScript, s.port))
	assert.Len(t, s.messages(t, "ann", "Ünï/Box"), 4)
}

func TestFetchers(t *testing.T) {
	for name, conf := range map[string]string{
		"fetchmail": `poll 127.0.0.1 protocol IMAP service PORT user ann password secret sslproto "" fetchall mda "cat > DIR/out/$(mktemp -u XXXXXXXXXX)"` + "\n",
		// As root it delivers to nothing but a command.
		"getmail": "[retriever]\ntype = SimpleIMAPRetriever\nserver = 127.0.0.1\nport = PORT\nusername = ann\npassword = secret\nmailboxes = (\"INBOX\", \"Archive/2026\")\n" +
			"[destination]\ntype = MDA_external\npath = /bin/sh\narguments = (\"-c\", \"cat > DIR/out/$(mktemp -u XXXXXXXXXX)\")\nunixfrom = false\nallow_root_commands = true\n[options]\ndelivered_to = false\nreceived = false\nverbose = 0\nread_all = true\n",
	} {
		t.Run(name, func(t *testing.T) {
			program := peer(t, name)
			s := newClientServer(t)
			dir := t.TempDir()
			t.Setenv("HOME", dir)
			require.NoError(t, os.Mkdir(filepath.Join(dir, "out"), 0o700))
			rc := writeFile(t, filepath.Join(dir, "rc"), strings.NewReplacer("PORT", s.port, "DIR", dir).Replace(conf))
			args, want := []string{"-f", rc, "--nodetach", "--nosyslog", "--pidfile", filepath.Join(dir, "pid")}, clientMails
			if name == "getmail" {
				args, want = []string{"--getmaildir", dir, "--rcfile", rc}, clientMails+5
			}
			runPeer(t, program, args...)
			files, err := filepath.Glob(filepath.Join(dir, "out/*"))
			require.NoError(t, err)
			assert.Len(t, files, want)
		})
	}
}
