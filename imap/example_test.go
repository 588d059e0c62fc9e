package imap_test

import (
	"fmt"

	"github.com/mailblocks/mailblocks/imap"
)

// Sets are ranges: a set of all UIDs costs as much as a set of one.
func ExampleNumSet() {
	spec, err := imap.ParseSetSpec("2,4:7,9,12:*")
	if err != nil {
		fmt.Println(err)
		return
	}
	set := imap.Resolve(spec, imap.UID(15))
	fmt.Println(set, set.Len(), set.Contains(13))
	fmt.Println(set.Subtract(imap.NumSetOf[imap.UID](4, 5, 13)))
	// Output:
	// 2,4:7,9,12:15 10 true
	// 2,6:7,9,12,14:15
}

// Flags are a value; an operation says what is to change, not what comes out.
func ExampleFlagOp() {
	flags := imap.NewFlags(imap.FlagSeen, "$Junk", "work")
	op := imap.FlagOp{Action: imap.FlagsRemove, Flags: imap.NewFlags("$JUNK", imap.FlagDeleted)}
	fmt.Println(op.Apply(flags))
	fmt.Println(flags)
	// Output:
	// (\Seen work)
	// (\Seen $Junk work)
}
