package spam_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/spam"
)

// Learn from examples, then judge. A server keeps the store in a file with spam.OpenFile.
func Example() {
	ctx := context.Background()
	c, err := spam.NewClassifier(ctx, spam.NewMemory(), nil)
	if err != nil {
		panic(err)
	}
	parse := func(text string) *spam.Message {
		m, err := spam.Parse(strings.NewReader(text), spam.Limits{})
		if err != nil {
			panic(err)
		}
		return m
	}
	for i := range 100 {
		ham := parse(fmt.Sprintf("From: Ann <ann@example.org>\r\nSubject: lunch on day %d\r\n\r\nShall we meet at noon?\r\n", i))
		junk := parse(fmt.Sprintf("From: Shop <shop%d@example.net>\r\nSubject: SALE\r\n\r\nCheap watches, order now!\r\n", i))
		if err := c.Learn(ctx, "ben", fmt.Sprint("ham", i), ham, spam.Ham); err != nil {
			panic(err)
		}
		if err := c.Learn(ctx, "ben", fmt.Sprint("junk", i), junk, spam.Spam); err != nil {
			panic(err)
		}
	}
	v, err := c.Score(ctx, "ben", parse("From: Shop <shop77@example.net>\r\nSubject: SALE\r\n\r\nCheap watches again\r\n"))
	if err != nil {
		panic(err)
	}
	fmt.Println(v, v.Action)
	// Output: spam junk
}
