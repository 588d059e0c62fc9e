package dane_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dane"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t *testing.T, by *party, ca bool, days int, names ...string) *party {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(names)) + 7), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, days), BasicConstraintsValid: true, IsCA: ca,
	}
	if ca {
		tmpl.KeyUsage = x509.KeyUsageCertSign
	} else {
		tmpl.DNSNames = names
	}
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &party{cert, key}
}

func TestVerify(t *testing.T) {
	root := issue(t, nil, true, 1000, "root")
	mid := issue(t, root, true, 500, "mid")
	leaf := issue(t, mid, false, 100, "mail.example.org")
	self := issue(t, nil, false, 100, "mail.example.org")
	other := issue(t, nil, true, 1000, "root")
	chain := []*x509.Certificate{leaf.cert, mid.cert, root.cert}
	short := chain[:2]
	at := epoch.AddDate(0, 0, 10)
	late := epoch.AddDate(0, 0, 200)
	names := []string{"mail.example.org"}

	rec := dane.RecordFor
	for name, c := range map[string]struct {
		record dane.Record
		chain  []*x509.Certificate
		at     time.Time
		names  []string
		ok     bool
	}{
		"3 1 1":                           {rec(leaf.cert, 3, 1, 1), chain, at, names, true},
		"3 0 1":                           {rec(leaf.cert, 3, 0, 1), chain, at, names, true},
		"3 1 2":                           {rec(leaf.cert, 3, 1, 2), chain, at, names, true},
		"3 0 0":                           {rec(leaf.cert, 3, 0, 0), chain, at, names, true},
		"3 1 0":                           {rec(leaf.cert, 3, 1, 0), chain, at, names, true},
		"3 1 1 expired, other name":       {rec(leaf.cert, 3, 1, 1), chain, late, []string{"x.test"}, true},
		"3 1 1 other key":                 {rec(self.cert, 3, 1, 1), chain, at, names, false},
		"3 1 1 of intermediate":           {rec(mid.cert, 3, 1, 1), chain, at, names, false},
		"2 0 1 root":                      {rec(root.cert, 2, 0, 1), chain, at, names, true},
		"2 1 1 root":                      {rec(root.cert, 2, 1, 1), chain, at, names, true},
		"2 1 1 intermediate":              {rec(mid.cert, 2, 1, 1), short, at, names, true},
		"2 0 2 intermediate":              {rec(mid.cert, 2, 0, 2), short, at, names, true},
		"2 0 1 root not shown":            {rec(root.cert, 2, 0, 1), short, at, names, false},
		"2 0 0 root not shown":            {rec(root.cert, 2, 0, 0), short, at, names, true},
		"2 1 0 root key not shown":        {rec(root.cert, 2, 1, 0), short, at, names, true},
		"2 1 0 other key":                 {rec(other.cert, 2, 1, 0), chain, at, names, false},
		"2 0 1 expired":                   {rec(root.cert, 2, 0, 1), chain, late, names, false},
		"2 0 1 name":                      {rec(root.cert, 2, 0, 1), chain, at, []string{"x.test"}, false},
		"2 0 1 second name":               {rec(root.cert, 2, 0, 1), chain, at, []string{"x.test", "mail.example.org"}, true},
		"2 0 1 other root":                {rec(other.cert, 2, 0, 1), append(chain[:2:2], other.cert), at, names, false},
		"2 0 1 of the host's certificate": {rec(leaf.cert, 2, 0, 1), chain, at, names, false},
		"2 0 1 broken chain":              {rec(root.cert, 2, 0, 1), []*x509.Certificate{leaf.cert, root.cert}, at, names, false},
		"3 0 1 self-signed":               {rec(self.cert, 3, 0, 1), []*x509.Certificate{self.cert}, at, names, true},
		"nothing shown":                   {rec(leaf.cert, 3, 1, 1), nil, at, names, false},
		"0 0 0 no certificate":            {dane.Record{Usage: 2, Data: []byte{1}}, chain, at, names, false},
		"2 1 0 no key":                    {dane.Record{Usage: 2, Selector: 1, Data: []byte{1}}, chain, at, names, false},
	} {
		s := &dane.Set{Status: dane.Usable, Names: c.names, Records: []dane.Record{rec(other.cert, 3, 1, 1), c.record}}
		got, err := s.Verify(c.chain, c.at)
		if c.ok {
			assert.NoError(t, err, name)
			assert.Equal(t, c.record, got, name)
		} else {
			assert.Error(t, err, name)
		}
	}
}

// handshake connects under the set's configuration.
func handshake(t *testing.T, s *dane.Set, server ...*party) (string, error) {
	var cert tls.Certificate
	for _, p := range server {
		cert.Certificate = append(cert.Certificate, p.cert.Raw)
	}
	cert.PrivateKey = server[0].key
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	sni := make(chan string, 1)
	go func() {
		b, err := l.Accept()
		if err != nil {
			return
		}
		defer b.Close()
		_ = tls.Server(b, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			sni <- h.ServerName
			return &cert, nil
		}}).Handshake()
	}()
	a, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer a.Close()
	err = tls.Client(a, s.Config(&tls.Config{Time: func() time.Time { return epoch.AddDate(0, 0, 1) }})).Handshake()
	return <-sni, err
}

func TestConfig(t *testing.T) {
	root := issue(t, nil, true, 1000, "root")
	leaf := issue(t, root, false, 100, "mail.example.org")
	s := &dane.Set{Status: dane.Usable, Base: "mail.example.org", Names: []string{"mail.example.org"}}
	s.Records = []dane.Record{dane.RecordFor(root.cert, dane.DANETA, dane.SPKI, dane.SHA256)}
	sni, err := handshake(t, s, leaf, root)
	assert.NoError(t, err)
	assert.Equal(t, "mail.example.org", sni)
	_, err = handshake(t, s, leaf)
	assert.ErrorIs(t, err, dane.ErrNoMatch)
	_, err = handshake(t, &dane.Set{Status: dane.Unusable, Base: "x.test"}, leaf)
	assert.NoError(t, err)
}

func TestLookup(t *testing.T) {
	sum := hex.EncodeToString(make([]byte, 32))
	long := hex.EncodeToString(make([]byte, 64))
	z := resolver.MustParseZones(`
		mail.example.org. A 192.0.2.1
		_25._tcp.mail.example.org. TLSA 3 1 1 ` + sum + `
		_25._tcp.mail.example.org. TLSA 3 1 2 ` + long + `
		_25._tcp.mail.example.org. TLSA 2 0 1 ` + sum + `
		_25._tcp.mail.example.org. TLSA 1 1 1 ` + sum + `
		_25._tcp.mail.example.org. TLSA 3 1 1 abcd
		_25._tcp.mail.example.org. TLSA 3 9 1 ` + sum + `
		pkix.example.org. AAAA 2001:db8::1
		_25._tcp.pkix.example.org. TLSA 0 0 1 ` + sum + `
		none.example.org. A 192.0.2.1
		alias.example.org. CNAME mail.example.org.
		own.example.org. CNAME none.example.org.
		_25._tcp.own.example.org. TLSA 3 1 1 ` + sum + `
		out.example.org. CNAME host.insecure.test.
		_25._tcp.out.example.org. TLSA 3 1 1 ` + sum + `
		host.insecure.test. A 192.0.2.2
		_25._tcp.host.insecure.test. TLSA 3 1 1 ` + sum + `
		down.example.org. A 192.0.2.1
		broken.example.org. A 192.0.2.1
	`)
	for _, host := range []string{"mail", "pkix", "none", "alias", "own", "out", "gone", "down", "broken"} {
		z.SetSecure(host+".example.org", "_25._tcp."+host+".example.org")
	}
	z.Fail("_25._tcp.down.example.org", dns.TypeTLSA, resolver.ErrServFail)
	z.Fail("broken.example.org", 0, resolver.ErrBogus)
	for host, c := range map[string]struct {
		status  dane.Status
		base    string
		usable  int
		ignored int
	}{
		"mail.example.org":   {dane.Usable, "mail.example.org", 2, 4},
		"pkix.example.org":   {dane.Unusable, "pkix.example.org", 0, 1},
		"none.example.org":   {dane.Absent, "none.example.org", 0, 0},
		"alias.example.org":  {dane.Usable, "mail.example.org", 2, 4},
		"own.example.org":    {dane.Usable, "own.example.org", 1, 0},
		"out.example.org":    {dane.Usable, "out.example.org", 1, 0},
		"host.insecure.test": {dane.Absent, "host.insecure.test", 0, 0},
		"gone.example.org":   {dane.Absent, "gone.example.org", 0, 0},
	} {
		s, err := dane.Lookup(t.Context(), z, host, 25, "example.net")
		require.NoError(t, err, host)
		assert.Equal(t, c.status, s.Status, host)
		assert.Equal(t, c.base, s.Base, host)
		assert.Len(t, s.Records, c.usable, host)
		assert.Len(t, s.Ignored, c.ignored, host)
		assert.Equal(t, c.base, s.Names[0], host)
		if s.Status != dane.Absent {
			assert.Contains(t, s.Names, "example.net")
		}
	}
	for host, want := range map[string]error{
		"down.example.org": resolver.ErrServFail, "broken.example.org": resolver.ErrBogus, "a..b": resolver.ErrName,
	} {
		_, err := dane.Lookup(t.Context(), z, host, 25)
		assert.ErrorIs(t, err, want, host)
	}
}

// FuzzVerify has records that nobody should publish.
func FuzzVerify(f *testing.F) {
	der, err := hex.DecodeString("3000")
	require.NoError(f, err)
	f.Add(uint8(2), uint8(0), uint8(0), der)
	f.Add(uint8(3), uint8(1), uint8(1), make([]byte, 32))
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		s := &dane.Set{Status: dane.Usable, Names: []string{"a.test"}, Records: []dane.Record{{
			Usage: dane.Usage(usage), Selector: dane.Selector(selector), Matching: dane.Matching(matching), Data: data,
		}}}
		_, err := s.Verify([]*x509.Certificate{{Raw: []byte("leaf"), RawSubjectPublicKeyInfo: []byte("key")}}, epoch)
		if string(data) != "leaf" && string(data) != "key" && len(data) < 32 {
			assert.Error(t, err)
		}
	})
}
