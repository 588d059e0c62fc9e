package returnpath_test

import (
	"fmt"

	"github.com/mailblocks/mailblocks/queue/returnpath"
)

func ExampleVERP() {
	verp := &returnpath.VERP{Keys: [][]byte{[]byte("secret")}}
	address := verp.Encode("news@list.example", "ann@example.org")
	sender, recipient, err := verp.Decode(address) // of the report that came back to it
	fmt.Println(sender, recipient, err)
	// Output: news@list.example ann@example.org <nil>
}
