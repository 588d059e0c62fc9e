package saslauth_test

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"

	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/saslauth"
)

var _ smtp.Authenticator = (*saslauth.Accounts)(nil)

func static(t *testing.T) *saslauth.Accounts {
	a, err := saslauth.Static(map[string]string{"alice": "wonderland", "empty": ""})
	require.NoError(t, err)
	return a
}

// exchange runs responses against a mechanism. A nil first response is none. It returns the identity
// ("" for none), the challenges, and the error.
func exchange(a *saslauth.Accounts, mech string, state *tls.ConnectionState, responses ...[]byte) (identity string, challenges []string, err error) {
	srv, err := a.Start(context.Background(), mech, netip.AddrPort{}, state, func(id string) error {
		identity = id
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	for _, r := range responses {
		c, done, err := srv.Next(r)
		challenges = append(challenges, string(c))
		if err != nil {
			return "", challenges, err
		}
		if done {
			return identity, challenges, nil
		}
	}
	return "", challenges, errors.New("not done")
}

func TestPlainAndLogin(t *testing.T) {
	a := static(t)
	long := make([]byte, 2000)
	cases := map[string]struct {
		mech      string
		responses [][]byte
		want      string
	}{
		"initial":              {"PLAIN", [][]byte{[]byte("\x00alice\x00wonderland")}, "alice"},
		"asked":                {"PLAIN", [][]byte{nil, []byte("\x00alice\x00wonderland")}, "alice"},
		"as oneself":           {"PLAIN", [][]byte{[]byte("alice\x00alice\x00wonderland")}, "alice"},
		"as another":           {"PLAIN", [][]byte{[]byte("bob\x00alice\x00wonderland")}, ""},
		"wrong":                {"PLAIN", [][]byte{[]byte("\x00alice\x00Wonderland")}, ""},
		"unknown":              {"PLAIN", [][]byte{[]byte("\x00bob\x00wonderland")}, ""},
		"unknown, no password": {"PLAIN", [][]byte{[]byte("\x00bob\x00")}, ""},
		"empty password":       {"PLAIN", [][]byte{[]byte("\x00empty\x00")}, ""},
		"no NUL":               {"PLAIN", [][]byte{[]byte("alice")}, ""},
		"three NULs":           {"PLAIN", [][]byte{[]byte("\x00alice\x00wonder\x00land")}, ""},
		"not UTF-8":            {"PLAIN", [][]byte{[]byte("\x00alice\x00\xff")}, ""},
		"too long":             {"PLAIN", [][]byte{append([]byte("\x00alice\x00"), long...)}, ""},
		"login":                {"LOGIN", [][]byte{nil, []byte("alice"), []byte("wonderland")}, "alice"},
		"login, initial":       {"LOGIN", [][]byte{[]byte("alice"), []byte("wonderland")}, "alice"},
		"login, wrong":         {"LOGIN", [][]byte{nil, []byte("alice"), []byte("x")}, ""},
		"login, unknown":       {"LOGIN", [][]byte{nil, []byte("bob"), []byte("wonderland")}, ""},
		"login, nobody":        {"LOGIN", [][]byte{nil, {}, []byte("wonderland")}, ""},
	}
	for name, c := range cases {
		got, _, err := exchange(a, c.mech, nil, c.responses...)
		assert.Equal(t, c.want, got, name)
		assert.Equal(t, c.want == "", err != nil, name)
	}
}

// What is typed differently and looks the same is the same (RFC 4013, 3), in names and passwords.
func TestPrepare(t *testing.T) {
	for in, want := range map[string]string{
		"wonder land~": "wonder land~", "I\u00ADX": "IX", "user": "user", "USER": "USER", "\u00AA": "a", "\u2168": "IX", "a\u00A0b": "a b",
		"\u0007": "", "\u0627\u0031": "", "\u00AD": "", "tab\t": "", "\u0000": "",
	} {
		got, err := saslauth.Prepare(in)
		assert.Equal(t, want, got, "%q", in)
		assert.Equal(t, want == "", err != nil, "%q", in)
	}
	a, err := saslauth.Static(map[string]string{"j\u00FCrgen": "\u2168 lives"})
	require.NoError(t, err)
	for _, response := range []string{"\x00j\u00FCrgen\x00IX lives", "ju\u0308rgen\x00ju\u0308rgen\x00I\u00ADX\u00A0lives"} {
		got, _, err := exchange(a, "PLAIN", nil, []byte(response))
		require.NoError(t, err)
		assert.Equal(t, "j\u00FCrgen", got)
	}
	got, _, err := exchange(a, "LOGIN", nil, []byte("ju\u0308rgen"), []byte("IX lives"))
	require.NoError(t, err)
	assert.Equal(t, "j\u00FCrgen", got)
	for _, response := range []string{"\x00j\u00FCrgen\x00IX\u0007lives", "\x00\u0007\x00IX lives", "\u0007\x00j\u00FCrgen\x00IX lives"} {
		_, _, err = exchange(a, "PLAIN", nil, []byte(response))
		assert.Error(t, err)
	}
	_, err = saslauth.Static(map[string]string{"a": "\u0007"})
	assert.Error(t, err)
	_, err = saslauth.HashPassword("\u0007")
	assert.Error(t, err)
	_, err = saslauth.NewScramCredentials("SHA-1", "\u0007", 0)
	assert.Error(t, err)
}

func TestUnknownUserLooksLikeWrongPassword(t *testing.T) {
	a := static(t)
	_, _, wrong := exchange(a, "PLAIN", nil, []byte("\x00alice\x00x"))
	_, _, unknown := exchange(a, "PLAIN", nil, []byte("\x00bob\x00x"))
	assert.Equal(t, wrong, unknown)

	// SCRAM gives a salt to everybody, and to each the same at each try.
	first := []byte("n,,n=bob,r=nonce")
	_, c1, _ := exchange(a, "SCRAM-SHA-256", nil, first)
	_, c2, _ := exchange(a, "SCRAM-SHA-256", nil, first)
	require.Len(t, c1, 1)
	salt := func(s string) string { return s[len("r=nonce"):][32:] }
	assert.Equal(t, salt(c1[0]), salt(c2[0]))
	_, _, err := exchange(a, "SCRAM-SHA-256", nil, first, []byte("c=biws,r=x,p=AAAA"))
	assert.ErrorIs(t, err, saslauth.ErrCredentials)
}

func TestAuthorize(t *testing.T) {
	a := static(t)
	a.Authorize = func(_ context.Context, identity, as string) (string, error) {
		if identity == "alice" && as == "shared" {
			return "shared", nil
		}
		return "", saslauth.ErrCredentials
	}
	got, _, err := exchange(a, "PLAIN", nil, []byte("shared\x00alice\x00wonderland"))
	require.NoError(t, err)
	assert.Equal(t, "shared", got)
	_, _, err = exchange(a, "PLAIN", nil, []byte("root\x00alice\x00wonderland"))
	assert.ErrorIs(t, err, saslauth.ErrCredentials)
}

func TestTroubleIsTemporary(t *testing.T) {
	down := errors.New("database is down")
	a := &saslauth.Accounts{
		Password: func(context.Context, string, string) (string, error) { return "", down },
		Scram: func(context.Context, string, string) (saslauth.ScramCredentials, error) {
			return saslauth.ScramCredentials{}, down
		},
		Token:  func(context.Context, string, string) (string, error) { return "", down },
		Secret: func(context.Context, string) (string, error) { return "", down },
	}
	for mech, responses := range map[string][][]byte{
		"PLAIN":         {[]byte("\x00a\x00b")},
		"LOGIN":         {nil, []byte("a"), []byte("b")},
		"SCRAM-SHA-256": {[]byte("n,,n=a,r=b")},
		"XOAUTH2":       {[]byte("user=a\x01auth=Bearer t\x01\x01"), {}},
		"OAUTHBEARER":   {[]byte("n,a=a,\x01auth=Bearer t\x01\x01"), {1}},
		"CRAM-MD5":      {nil, []byte("a 00112233445566778899aabbccddeeff")},
	} {
		_, _, err := exchange(a, mech, nil, responses...)
		var temp interface{ Temporary() bool }
		if assert.ErrorAs(t, err, &temp, mech) {
			assert.True(t, temp.Temporary(), mech)
		}
		assert.ErrorIs(t, err, down, mech)
	}
}

func TestCheckPassword(t *testing.T) {
	hash, err := saslauth.HashPassword("wonderland")
	require.NoError(t, err)
	check := saslauth.CheckPassword(func(_ context.Context, user string) (string, string, error) {
		switch user {
		case "alice":
			return hash, "alice@example.org", nil
		case "broken":
			return "not a hash", "", nil
		}
		return "", "", saslauth.ErrCredentials
	})
	id, err := check(t.Context(), "alice", "wonderland")
	require.NoError(t, err)
	assert.Equal(t, "alice@example.org", id)
	for _, c := range [][2]string{{"alice", "x"}, {"bob", "wonderland"}, {"bob", "nobody"}} {
		_, err = check(t.Context(), c[0], c[1])
		assert.ErrorIs(t, err, saslauth.ErrCredentials, c[0])
	}
	_, err = check(t.Context(), "broken", "x")
	require.Error(t, err)
	assert.NotErrorIs(t, err, saslauth.ErrCredentials)
}

func TestBearer(t *testing.T) {
	a := &saslauth.Accounts{Token: func(_ context.Context, user, token string) (string, error) {
		if token != "t0ken" || user != "" && user != "a,b=c" && user != "alice" {
			return "", saslauth.ErrCredentials
		}
		return "alice", nil
	}}
	cases := map[string]struct {
		mech, response, want string
	}{
		"x":              {"XOAUTH2", "user=alice\x01auth=Bearer t0ken\x01\x01", "alice"},
		"x, wrong":       {"XOAUTH2", "user=alice\x01auth=Bearer token\x01\x01", ""},
		"x, no user":     {"XOAUTH2", "user=\x01auth=Bearer t0ken\x01\x01", ""},
		"x, no token":    {"XOAUTH2", "user=alice\x01\x01", ""},
		"x, no end":      {"XOAUTH2", "user=alice\x01auth=Bearer t0ken", ""},
		"o":              {"OAUTHBEARER", "n,a=alice,\x01host=h\x01port=25\x01auth=Bearer t0ken\x01\x01", "alice"},
		"o, no user":     {"OAUTHBEARER", "n,,\x01auth=bearer t0ken\x01\x01", "alice"},
		"o, escaped":     {"OAUTHBEARER", "n,a=a=2Cb=3Dc,\x01auth=Bearer t0ken\x01\x01", "alice"},
		"o, bad escape":  {"OAUTHBEARER", "n,a=a=2Xb,\x01auth=Bearer t0ken\x01\x01", ""},
		"o, binding":     {"OAUTHBEARER", "p=tls-exporter,,\x01auth=Bearer t0ken\x01\x01", ""},
		"o, two tokens":  {"OAUTHBEARER", "n,,\x01auth=Bearer t0ken\x01auth=Bearer x\x01\x01", ""},
		"o, basic":       {"OAUTHBEARER", "n,,\x01auth=Basic t0ken\x01\x01", ""},
		"o, no pair":     {"OAUTHBEARER", "n,,\x01auth\x01\x01", ""},
		"o, empty":       {"OAUTHBEARER", "", ""},
		"o, wrong token": {"OAUTHBEARER", "n,,\x01auth=Bearer token\x01\x01", ""},
	}
	for name, c := range cases {
		got, challenges, err := exchange(a, c.mech, nil, []byte(c.response), []byte{1})
		assert.Equal(t, c.want, got, name)
		if c.want == "" {
			assert.Error(t, err, name)
			assert.Contains(t, challenges[0], `"schemes":"bearer"`, name)
		}
	}
	// go-sasl's client
	client := sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: "alice", Token: "t0ken"})
	_, ir, err := client.Start()
	require.NoError(t, err)
	got, _, err := exchange(a, "OAUTHBEARER", nil, nil, ir)
	require.NoError(t, err)
	assert.Equal(t, "alice", got)
}

func TestCRAM(t *testing.T) {
	a := &saslauth.Accounts{Secret: func(_ context.Context, user string) (string, error) {
		if user != "al ice" {
			return "", saslauth.ErrCredentials
		}
		return "wonderland", nil
	}}
	try := func(user, secret string) error {
		var id string
		srv, err := a.Start(t.Context(), "CRAM-MD5", netip.AddrPort{}, nil, func(s string) error { id = s; return nil })
		require.NoError(t, err)
		challenge, _, err := srv.Next(nil)
		require.NoError(t, err)
		mac := hmac.New(md5.New, []byte(secret))
		mac.Write(challenge)
		_, done, err := srv.Next([]byte(user + " " + hex.EncodeToString(mac.Sum(nil))))
		if err == nil {
			assert.True(t, done)
			assert.Equal(t, user, id)
		}
		return err
	}
	assert.NoError(t, try("al ice", "wonderland"))
	assert.ErrorIs(t, try("al ice", "x"), saslauth.ErrCredentials)
	assert.ErrorIs(t, try("bob", "wonderland"), saslauth.ErrCredentials)
	_, _, err := exchange(a, "CRAM-MD5", nil, nil, []byte("alice"))
	assert.Error(t, err)
	_, _, err = exchange(a, "CRAM-MD5", nil, []byte("initial"))
	assert.Error(t, err)
}

// tlsPair makes a connection and returns both ends' states.
func tlsPair(t *testing.T) (server, client tls.ConnectionState, cert *x509.Certificate) {
	c, pool, err := testcert.New("mx.test")
	require.NoError(t, err)
	a, b := net.Pipe()
	defer a.Close()
	srv := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{c}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	cl := tls.Client(b, &tls.Config{RootCAs: pool, ServerName: "mx.test", Certificates: []tls.Certificate{c}})
	done := make(chan error, 1)
	go func() {
		err := srv.Handshake()
		if err == nil {
			_, err = srv.Write([]byte("x"))
		}
		done <- err
	}()
	_, err = io.ReadFull(cl, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, <-done)
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	require.NoError(t, err)
	return srv.ConnectionState(), cl.ConnectionState(), leaf
}

func TestScram(t *testing.T) {
	a := static(t)
	server, client, cert := tlsPair(t)
	a.Certificate = saslauth.OneCertificate(tls.Certificate{Certificate: [][]byte{cert.Raw}})
	exporter, err := scram.NewTLSExporterBinding(&client)
	require.NoError(t, err)
	endpoint, err := scram.NewTLSServerEndpointBinding(&client)
	require.NoError(t, err)
	forged := exporter
	forged.Data = make([]byte, 32)

	cases := map[string]struct {
		mech, password string
		state          *tls.ConnectionState
		bind           *scram.ChannelBinding
		advertised     bool // the client saw -PLUS, or could have
		ok             bool
	}{
		"SHA-256":                {"SCRAM-SHA-256", "wonderland", nil, nil, false, true},
		"SHA-1":                  {"SCRAM-SHA-1", "wonderland", nil, nil, false, true},
		"wrong":                  {"SCRAM-SHA-256", "x", nil, nil, false, false},
		"over TLS, unbound":      {"SCRAM-SHA-256", "wonderland", &server, nil, false, true},
		"exporter":               {"SCRAM-SHA-256-PLUS", "wonderland", &server, &exporter, true, true},
		"exporter, SHA-1":        {"SCRAM-SHA-1-PLUS", "wonderland", &server, &exporter, true, true},
		"end point":              {"SCRAM-SHA-256-PLUS", "wonderland", &server, &endpoint, true, true},
		"man in the middle":      {"SCRAM-SHA-256-PLUS", "wonderland", &server, &forged, true, false},
		"bound without PLUS":     {"SCRAM-SHA-256", "wonderland", &server, &exporter, true, false},
		"PLUS without a binding": {"SCRAM-SHA-256-PLUS", "wonderland", &server, nil, false, false},
		"PLUS without TLS":       {"SCRAM-SHA-256-PLUS", "wonderland", nil, &exporter, true, false},
	}
	for name, c := range cases {
		gen := scram.SHA256
		if c.mech == "SCRAM-SHA-1" || c.mech == "SCRAM-SHA-1-PLUS" {
			gen = scram.SHA1
		}
		cl, err := gen.NewClient("alice", c.password, "")
		require.NoError(t, err)
		conv := cl.NewConversation()
		if c.bind != nil {
			conv = cl.NewConversationWithChannelBinding(*c.bind)
		}
		first, err := conv.Step("")
		require.NoError(t, err)
		var identity string
		srv, err := a.Start(t.Context(), c.mech, netip.AddrPort{}, c.state, func(id string) error { identity = id; return nil })
		if err != nil {
			assert.False(t, c.ok, name)
			continue
		}
		response := []byte(first)
		done := false
		for !done && err == nil {
			var challenge []byte
			if challenge, done, err = srv.Next(response); err == nil {
				var s string
				s, err = conv.Step(string(challenge))
				response = []byte(s)
			}
		}
		assert.Equal(t, c.ok, err == nil, "%s: %v", name, err)
		if c.ok {
			assert.Equal(t, "alice", identity, name)
			assert.True(t, conv.Valid(), name)
		}
	}
	// A client that could bind and was told that we can't: "y".
	_, _, err = exchange(a, "SCRAM-SHA-256", &server, []byte("y,,n=alice,r=nonce"))
	assert.Error(t, err)
}

func TestScramClient(t *testing.T) {
	a := static(t)
	server, client, cert := tlsPair(t)
	a.Certificate = saslauth.OneCertificate(tls.Certificate{Certificate: [][]byte{cert.Raw}})
	run := func(mech, password string) error {
		c, err := saslauth.NewScramClient(mech, "alice", password, &client)
		require.NoError(t, err)
		proved := c.(interface{ Proved() error }).Proved
		srv, err := a.Start(t.Context(), mech, netip.AddrPort{}, &server, func(id string) error {
			assert.Equal(t, "alice", id)
			return nil
		})
		require.NoError(t, err)
		name, response, err := c.Start()
		require.NoError(t, err)
		assert.Equal(t, mech, name)
		for done := false; !done; {
			require.ErrorIs(t, proved(), saslauth.ErrServerProof)
			var challenge []byte
			if challenge, done, err = srv.Next(response); err != nil {
				return err
			}
			if response, err = c.Next(challenge); err != nil {
				return err
			}
		}
		_, err = c.Next([]byte("more"))
		assert.ErrorIs(t, err, sasl.ErrUnexpectedServerChallenge)
		return proved()
	}
	for _, mech := range a.Mechanisms(&server)[:4] {
		assert.NoError(t, run(mech, "wonderland"), mech)
		assert.ErrorIs(t, run(mech, "looking-glass"), saslauth.ErrCredentials, mech)
	}
	_, err := saslauth.NewScramClient("SCRAM-SHA-256-PLUS", "alice", "wonderland", nil)
	assert.Error(t, err)
	_, err = saslauth.NewScramClient("SCRAM-MD5", "alice", "wonderland", nil)
	assert.Error(t, err)
}

func TestExternal(t *testing.T) {
	server, _, _ := tlsPair(t)
	a := &saslauth.Accounts{External: func(_ context.Context, cert *x509.Certificate) (string, error) {
		return cert.Subject.CommonName, nil
	}}
	assert.Empty(t, a.Mechanisms(nil))
	assert.Empty(t, a.Mechanisms(&tls.ConnectionState{}))
	assert.Equal(t, []string{"EXTERNAL"}, a.Mechanisms(&server))
	got, _, err := exchange(a, "EXTERNAL", &server, []byte{})
	require.NoError(t, err)
	assert.Equal(t, "mx.test", got)
	_, _, err = exchange(a, "EXTERNAL", &server, nil, []byte("other"))
	assert.ErrorIs(t, err, saslauth.ErrCredentials)
	_, _, err = exchange(a, "EXTERNAL", nil, []byte{})
	assert.Error(t, err)
}

func TestMechanisms(t *testing.T) {
	a := static(t)
	server, _, _ := tlsPair(t)
	assert.Equal(t, []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"}, a.Mechanisms(nil))
	assert.Equal(t, []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN", "LOGIN"}, a.Mechanisms(&server))
	_, err := a.Start(t.Context(), "CRAM-MD5", netip.AddrPort{}, nil, nil)
	assert.Error(t, err)
}

func FuzzResponses(f *testing.F) {
	a, err := saslauth.Static(map[string]string{"alice": "wonderland"})
	if err != nil {
		f.Fatal(err)
	}
	a.Token = func(context.Context, string, string) (string, error) { return "", saslauth.ErrCredentials }
	a.Secret = func(context.Context, string) (string, error) { return "secret", nil }
	f.Add([]byte("\x00alice\x00wonderland"), []byte("wonderland"))
	f.Add([]byte("n,,n=alice,r=nonce"), []byte("c=biws,r=nonce,p=AAAA"))
	f.Add([]byte("n,a=alice,\x01auth=Bearer t\x01\x01"), []byte{1})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, mech := range a.Mechanisms(nil) {
			id, _, err := exchange(a, mech, nil, first, second)
			if err == nil && id != "alice" {
				t.Fatalf("%s: identity %q", mech, id)
			}
		}
	})
}

func ExampleStatic() {
	accounts, err := saslauth.Static(map[string]string{"alice@example.org": "wonderland"})
	if err != nil {
		panic(err)
	}
	srv := &smtp.Server{Mode: smtp.ModeSubmission, Authenticator: accounts}
	_ = srv // Handler, TLS, ListenAndServe
}
