package authres_test

import (
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/authres"
)

func Example() {
	h := &authres.Header{ServID: "mx.example.org", Results: []authres.Result{{
		Method: "spf", Value: "pass",
		Props: []authres.Prop{{Type: "smtp", Name: "mailfrom", Value: "alice@example.test"}},
	}}}
	fmt.Println(strings.ReplaceAll(h.Field(), "\r", ""))

	forged := []byte("Authentication-Results: mx.example.org; dkim=pass\r\nSubject: hi\r\n")
	clean, removed := authres.Strip(forged, "mx.example.org")
	fmt.Printf("%d %q\n", removed, clean)
	// Output:
	// Authentication-Results: mx.example.org;
	// 	spf=pass smtp.mailfrom=alice@example.test
	//
	// 1 "Subject: hi\r\n"
}
