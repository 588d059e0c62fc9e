package mtasts_test

import (
	"context"
	"fmt"

	"github.com/mailblocks/mailblocks/dnsauth/mtasts"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func ExampleClient() {
	client := &mtasts.Client{
		Resolver: resolver.MustParseZones(`example.org. MX 10 mail.example.org.`),
		Store:    &mtasts.Memory{}, // better a mtasts.Dir
	}
	found, err := client.Policy(context.Background(), "example.org")
	fmt.Println(found.Policy == nil, err)
	// Output: true <nil>
}

func ExampleParsePolicy() {
	policy, err := mtasts.ParsePolicy("version: STSv1\nmode: enforce\nmx: *.example.org\nmax_age: 86400\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(policy.Mode, policy.Matches("mail.example.org"), policy.Matches("mail.example.net"))
	// Output: enforce true false
}
