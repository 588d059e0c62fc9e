package dsn_test

import (
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/dsn"
)

func ExampleWriter() {
	reports := &dsn.Writer{Hostname: "mx.example.org"}
	runner := queue.Runner{Report: reports.Report} // and Store, Transport
	fmt.Println(runner.Report != nil)
	// Output: true
}

func ExampleParse() {
	bounce := strings.ReplaceAll(`Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; bob@example.net
Action: failed
Status: 5.1.1

--b--
`, "\n", "\r\n")
	report, err := dsn.Parse(strings.NewReader(bounce))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range report.Recipients {
		fmt.Println(r.Final, r.Action, r.Status)
	}
	// Output: bob@example.net failed 5.1.1
}
