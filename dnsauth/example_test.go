package dnsauth_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func Example() {
	cfg := dnsauth.Config{
		ServID:  "mx.example.test",
		NoIPRev: true,
		// In a server: &resolver.Cache{Next: &resolver.Client{}}
		Resolver: resolver.MustParseZones(`
			example.org.        TXT "v=spf1 ip4:192.0.2.1 -all"
			_dmarc.example.org. TXT "v=DMARC1; p=reject"
		`),
	}
	message := "From: alice@example.org\r\nSubject: hello\r\n\r\nHello, Bob.\r\n"

	// At MAIL FROM:
	check := dnsauth.Start(context.Background(), cfg, dnsauth.Session{
		IP:       netip.MustParseAddr("192.0.2.1"),
		Helo:     "mail.example.org",
		MailFrom: "alice@example.org",
	})
	// At DATA, beside whatever else reads the body:
	io.WriteString(check, message)
	report, err := check.Finish()
	if err != nil {
		panic(err)
	}
	fmt.Println(report.SPF.Status, report.DMARC.Status, report.Disposition)
	fmt.Print(strings.ReplaceAll(report.AuthenticationResults, "\r\n\t", "\n  "))
	// Output:
	// pass pass none
	// Authentication-Results: mx.example.test;
	//   spf=pass (ip4:192.0.2.1) smtp.mailfrom=alice@example.org;
	//   dkim=none (message not signed);
	//   dmarc=pass (p=reject dis=none) header.from=example.org
}
