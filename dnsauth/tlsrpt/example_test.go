package tlsrpt_test

import (
	"fmt"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
)

func Example() {
	var c tlsrpt.Collector
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	c.Add(at, tlsrpt.Session{
		Policy:  tlsrpt.Policy{Type: tlsrpt.NoPolicy, Domain: "example.org"},
		Failure: &tlsrpt.Failure{Type: tlsrpt.StartTLSNotSupported, MXHost: "mx.example.org"},
	})
	for domain, results := range c.Take(at) {
		r := tlsrpt.Report{Organization: "Example", Contact: "tls@example.net", ID: "1", DateRange: tlsrpt.Day(at), Policies: results}
		fmt.Println(domain, r.Policies[0].Summary.Failed)
	}
	// Output: example.org 1
}
