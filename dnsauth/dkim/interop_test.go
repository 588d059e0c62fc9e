package dkim_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/resolver/resolvertest"
)

// peer is another implementation, run as a program of its own.
type peer struct {
	differs []string                                                               // messages of which it sees the simple body differently
	refuses []string                                                               // messages that it does not take at all
	verify  func(t *testing.T, msg []byte) bool                                    // nil if it can't
	sign    func(t *testing.T, msg []byte, canon dkim.Canonicalization) (b []byte) // the signed message
}

type interop struct {
	key     crypto.Signer
	keyFile string // PKCS #1, PEM
	record  string
	zones   *resolver.Zones
	dns     *resolvertest.Server
}

func run(t *testing.T, in []byte, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(in)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if errOut.Len() > 0 {
		t.Logf("%s: %s", name, errOut.String())
	}
	return out.Bytes(), err
}

const dkimpyVerify = `
import sys, dkim
sys.exit(0 if dkim.verify(sys.stdin.buffer.read(), dnsfunc=lambda name, timeout=5: sys.argv[1].encode()) else 1)`

const dkimpySign = `
import sys, dkim
msg = sys.stdin.buffer.read()
c = sys.argv[2].encode()
sys.stdout.buffer.write(dkim.sign(msg, b"s", b"example.org", open(sys.argv[1], "rb").read(), canonicalize=(c, c), include_headers=[b"from", b"subject", b"to"]) + msg)`

const perlVerify = `
use Mail::DKIM::Verifier; use Net::DNS;
my $r = Net::DNS::Resolver->new(nameservers => [$ARGV[0]], port => $ARGV[1], recurse => 1);
Mail::DKIM::DNS::resolver($r);
binmode STDIN; my $m = do { local $/; <STDIN> };
my $v = Mail::DKIM::Verifier->new(); $v->PRINT($m); $v->CLOSE;
exit($v->result eq "pass" ? 0 : 1);`

const perlSign = `
use Mail::DKIM::Signer;
binmode STDIN; binmode STDOUT; my $m = do { local $/; <STDIN> };
my $s = Mail::DKIM::Signer->new(Algorithm => "rsa-sha256", Method => "$ARGV[1]/$ARGV[1]", Domain => "example.org", Selector => "s", KeyFile => $ARGV[0]);
$s->PRINT($m); $s->CLOSE;
print $s->signature->as_string, "\r\n", $m;`

func (i *interop) peers(t *testing.T) map[string]func(t *testing.T) peer {
	host, port, err := net.SplitHostPort(i.dns.Addr)
	require.NoError(t, err)
	return map[string]func(t *testing.T) peer{
		"dkimpy": func(t *testing.T) peer {
			python := "python3"
			if exec.Command(python, "-c", "import dkim").Run() != nil {
				python = "/usr/bin/python3" // Debian's, where another one comes first
			}
			if exec.Command(python, "-c", "import dkim").Run() != nil {
				t.Skip("python3-dkim is not installed")
			}
			return peer{
				// The last it takes, with a bare LF for a line end.
				refuses: []string{"not a field", "space before :", "bare CR and LF"},
				verify: func(t *testing.T, msg []byte) bool {
					_, err := run(t, msg, python, "-c", dkimpyVerify, i.record)
					return err == nil
				},
				sign: func(t *testing.T, msg []byte, c dkim.Canonicalization) []byte {
					out, err := run(t, msg, python, "-c", dkimpySign, i.keyFile, string(c))
					require.NoError(t, err)
					return out
				},
			}
		},
		"Mail::DKIM": func(t *testing.T) peer {
			if exec.Command("perl", "-MMail::DKIM", "-MNet::DNS", "-e", "1").Run() != nil {
				t.Skip("libmail-dkim-perl is not installed")
			}
			return peer{
				// It adds no CRLF to a last line without one (RFC 6376, 3.4.3), and
				// takes a bare LF for a line end.
				differs: []string{"no final newline", "bare CR and LF"},
				verify: func(t *testing.T, msg []byte) bool {
					_, err := run(t, msg, "perl", "-e", perlVerify, host, port)
					return err == nil
				},
				sign: func(t *testing.T, msg []byte, c dkim.Canonicalization) []byte {
					out, err := run(t, msg, "perl", "-e", perlSign, i.keyFile, string(c))
					require.NoError(t, err)
					return out
				},
			}
		},
		"opendkim": func(t *testing.T) peer {
			if _, err := exec.LookPath("opendkim"); err != nil {
				t.Skip("opendkim is not installed")
			}
			return peer{
				// Its reader takes a bare LF for a line end, wants one at the end, and ends the header at
				// what is no field; a milter is not shown the space around a field's colon.
				refuses: []string{"bare CR and LF", "not a field", "space before :", "no final newline"},
				differs: []string{"folded", "empty fields"},
				verify: func(t *testing.T, msg []byte) bool {
					return strings.Contains(i.opendkim(t, msg, "Mode v\nAlwaysAddARHeader yes\nAuthservID mx.test"), "dkim=pass")
				},
				sign: func(t *testing.T, msg []byte, c dkim.Canonicalization) []byte {
					out := i.opendkim(t, msg, "Mode s\nDomain example.org\nSelector s\nRequireSafeKeys no\nKeyFile "+i.keyFile+"\nCanonicalization "+string(c)+"/"+string(c))
					m := insertedField.FindStringSubmatch(out)
					require.NotNil(t, m, out)
					return append([]byte("DKIM-Signature: "+strings.ReplaceAll(m[1], "\n", "\r\n")+"\r\n"), msg...)
				},
			}
		},
	}
}

// opendkim reads configuration, keys and message from files; of what it does with a message it prints
// the fields that it would add.
func (i *interop) opendkim(t *testing.T, msg []byte, conf string) string {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	conf += "\nTestDNSData file:" + write("dns", "s._domainkey.example.org "+i.record+"\n") + "\n"
	out, _ := run(t, nil, "opendkim", "-x", write("conf", conf), "-vvv", "-t", write("msg", string(msg)))
	return string(out)
}

var insertedField = regexp.MustCompile(`(?s)INSHEADER: idx=\d+ hname='DKIM-Signature' hvalue='(.*?)'\n`)

// TestInterop signs here and verifies there, and the other way round.
func TestInterop(t *testing.T) {
	i := &interop{zones: new(resolver.Zones), keyFile: filepath.Join(t.TempDir(), "key.pem")}
	var err error
	i.key, err = dkim.GenerateKey("rsa")
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(i.key.(*rsa.PrivateKey))})
	require.NoError(t, os.WriteFile(i.keyFile, text, 0o600))
	i.record, err = dkim.RecordText(i.key.Public())
	require.NoError(t, err)
	i.zones.AddTXT("s._domainkey.example.org", i.record)
	i.dns, err = resolvertest.Listen(i.zones, "")
	require.NoError(t, err)
	defer i.dns.Close()

	for name, start := range i.peers(t) {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			for name, msg := range awkward {
				for _, c := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
					if c == dkim.Simple && slices.Contains(p.differs, name) || slices.Contains(p.refuses, name) {
						continue
					}
					if p.verify != nil {
						s, err := dkim.NewSigner(dkim.SignOptions{Keys: []dkim.SigningKey{{Domain: "example.org", Selector: "s", Signer: i.key}}, HeaderCanon: c, BodyCanon: c})
						require.NoError(t, err)
						_, _ = s.Write([]byte(msg))
						field, err := s.Finish()
						require.NoError(t, err)
						assert.True(t, p.verify(t, append(field, msg...)), "signed here, %s, %s", name, c)
					}
					signed := p.sign(t, []byte(msg), c)
					res, err := dkim.Verify(t.Context(), i.zones, bytes.NewReader(signed), nil)
					require.NoError(t, err)
					if assert.Len(t, res, 1, "signed there, %s, %s", name, c) {
						assert.Equal(t, dkim.Pass, res[0].Status, "signed there, %s, %s: %s", name, c, res[0].Reason)
					}
				}
			}
		})
	}
}
