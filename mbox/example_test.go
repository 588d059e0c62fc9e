package mbox_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/mbox"
)

// Write two messages, and read them back.
func Example() {
	var file bytes.Buffer
	w := mbox.NewWriter(&file, nil)
	at := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for _, text := range []string{"Subject: one\n\nFrom now on.\n", "Subject: two\n\nHi.\n"} {
		if err := w.Write("ann@example.org", at, strings.NewReader(text)); err != nil {
			log.Fatal(err)
		}
	}
	for m, err := range mbox.NewReader(&file, nil).Messages() {
		if err != nil {
			log.Fatal(err)
		}
		text, err := io.ReadAll(m.Body)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s %q\n", m.Sender, m.Date.Format(time.DateOnly), text)
	}
	// Output:
	// ann@example.org 2026-11-22 "Subject: one\n\nFrom now on.\n"
	// ann@example.org 2026-11-22 "Subject: two\n\nHi.\n"
}
