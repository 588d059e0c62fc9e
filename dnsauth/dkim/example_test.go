package dkim_test

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Example signs a message, publishes the key, and verifies what was signed.
func Example() {
	message := "From: alice@example.org\r\nSubject: hello\r\n\r\nHello, Bob.\r\n"

	private, err := dkim.GenerateKey("ed25519")
	if err != nil {
		panic(err)
	}
	key := dkim.SigningKey{Domain: "example.org", Selector: "2026a", Signer: private}
	signer, err := dkim.NewSigner(dkim.SignOptions{Keys: []dkim.SigningKey{key}})
	if err != nil {
		panic(err)
	}
	io.WriteString(signer, message)
	field, err := signer.Finish()
	if err != nil {
		panic(err)
	}

	line, err := key.ZoneLine()
	if err != nil {
		panic(err)
	}
	zones := resolver.MustParseZones(line)

	results, err := dkim.Verify(context.Background(), zones, strings.NewReader(string(field)+message), nil)
	fmt.Println(results[0].Status, results[0].Domain(), err)
	// Output: pass example.org <nil>
}
