package dmarcrpt_test

import (
	"fmt"

	"github.com/mailblocks/mailblocks/dnsauth/dmarcrpt"
)

func Example() {
	var c dmarcrpt.Collector
	c.Add(dmarcrpt.Policy{Domain: "example.org", Policy: "reject"}, dmarcrpt.Record{
		Row:         dmarcrpt.Row{SourceIP: "192.0.2.1", Evaluated: dmarcrpt.Evaluated{Disposition: "pass", DKIM: "pass", SPF: "pass"}},
		Identifiers: dmarcrpt.Identifiers{HeaderFrom: "example.org"},
	})
	for _, r := range c.Take() {
		r.Metadata = dmarcrpt.Metadata{Organization: "Example", Email: "dmarc@example.net", ID: "1"}
		fmt.Println(r.Policy.Domain, r.Records[0].Row.Count)
	}
	// Output: example.org 1
}
