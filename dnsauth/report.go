package dnsauth

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/mailblocks/mailblocks/dnsauth/arc"
	"github.com/mailblocks/mailblocks/dnsauth/authres"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/dnsbl"
	"github.com/mailblocks/mailblocks/dnsauth/iprev"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

// Disposition is what we suggest to do with a message.
type Disposition string

// The suggestions. A server that honours Reject refuses the message with 550
// 5.7.1; one that knows better, say of a mailing list, quarantines it.
const (
	Accept     Disposition = "none"
	Quarantine Disposition = "quarantine"
	Reject     Disposition = "reject"
)

// Report is what a Check found. All its text is printable.
type Report struct {
	SPF         *spf.Result // of MAIL FROM
	HeloSPF     *spf.Result // nil unless asked for
	DKIM        []dkim.Result
	DKIMSkipped int         // signatures beyond the limit
	ARC         *arc.Result // nil if left out
	DMARC       *dmarc.Result
	IPRev       *iprev.Result  // nil if left out
	DNSBL       []dnsbl.Result // in the order of Config.DNSBLs

	FromDomain string // of the author, empty unless there is exactly one
	ServID     string
	Queries    int // questions asked

	// Disposition follows DMARC: the policy of a domain whose message failed.
	// A From field that names no one author that could be checked suggests
	// Quarantine (RFC 9989, 11.5). Reason says why, for the reply or the log.
	Disposition Disposition
	Reason      string

	// AuthenticationResults is the header field with these results, folded,
	// with CRLF at its end, to be put in front of the message. Fields that
	// came under the same name must go first: authres.Strip.
	AuthenticationResults string

	discovery string // how the organizational domain was found, as aggregate reports say it
}

// ReceivedSPF returns the Received-SPF field (RFC 7208, 9.1), to be put in front
// of the message.
func (r *Report) ReceivedSPF() string { return r.SPF.ReceivedSPF(r.ServID) }

// DKIMPass reports whether a signature of domain, or of any domain if that is
// empty, has passed.
func (r *Report) DKIMPass(domain string) bool {
	for i := range r.DKIM {
		if r.DKIM[i].Status == dkim.Pass && (domain == "" || r.DKIM[i].Domain() == domain) {
			return true
		}
	}
	return false
}

func (r *Report) decide() {
	r.Disposition = Accept
	d := r.DMARC
	switch d.Status {
	case dmarc.Fail:
		r.Disposition = Disposition(d.Policy)
		r.Reason = "DMARC policy of " + d.RecordDomain
	case dmarc.PermError:
		r.Disposition = Quarantine
		r.Reason = d.Reason
	}
}

// header puts the results in the order that readers expect: the envelope's,
// the message's, the author's.
func (r *Report) header() *authres.Header {
	h := &authres.Header{ServID: r.ServID}
	if r.IPRev != nil {
		h.Results = append(h.Results, iprevResult(r.IPRev))
	}
	h.Results = append(h.Results, spfResult(r.SPF))
	if r.HeloSPF != nil {
		h.Results = append(h.Results, spfResult(r.HeloSPF))
	}
	if len(r.DKIM) == 0 {
		h.Results = append(h.Results, authres.Result{Method: "dkim", Value: "none", Comment: "message not signed"})
	}
	for i := range r.DKIM {
		h.Results = append(h.Results, dkimResult(&r.DKIM[i]))
	}
	if r.ARC != nil && r.ARC.Status != arc.None {
		h.Results = append(h.Results, arcResult(r.ARC))
	}
	h.Results = append(h.Results, dmarcResult(r.DMARC))
	return h
}

func iprevResult(r *iprev.Result) authres.Result {
	return authres.Result{
		Method: "iprev", Value: string(r.Status), Comment: r.Name,
		Props: []authres.Prop{{Type: "policy", Name: "iprev", Value: r.IP.String()}},
	}
}

func spfResult(r *spf.Result) authres.Result {
	out := authres.Result{Method: "spf", Value: string(r.Status), Reason: r.Reason}
	switch r.Status {
	case spf.Pass, spf.Fail, spf.SoftFail, spf.Neutral:
		out.Comment = r.Mechanism
	}
	if r.Identity == spf.Helo || r.Null {
		out.Props = []authres.Prop{{Type: "smtp", Name: "helo", Value: r.Helo}}
	} else {
		out.Props = []authres.Prop{{Type: "smtp", Name: "mailfrom", Value: r.Sender}}
	}
	return out
}

func dkimResult(r *dkim.Result) authres.Result {
	out := authres.Result{Method: "dkim", Value: string(r.Status), Reason: r.Reason}
	if r.KeyBits > 0 {
		out.Comment = fmt.Sprintf("%d-bit key", r.KeyBits)
	}
	if r.Testing {
		out.Comment += ", testing"
	}
	if s := r.Signature; s != nil {
		b := base64.StdEncoding.EncodeToString(s.Signature)
		out.Props = []authres.Prop{
			{Type: "header", Name: "d", Value: s.Domain},
			{Type: "header", Name: "i", Value: s.Identity},
			{Type: "header", Name: "s", Value: s.Selector},
			{Type: "header", Name: "a", Value: s.Algorithm},
			{Type: "header", Name: "b", Value: b[:min(len(b), 8)]}, // RFC 6008
		}
	}
	return out
}

func arcResult(r *arc.Result) authres.Result {
	out := authres.Result{Method: "arc", Value: string(r.Status), Reason: r.Reason}
	if r.Status == arc.Pass {
		out.Comment = fmt.Sprintf("i=%d", len(r.Sets))
		out.Props = []authres.Prop{{Type: "header", Name: "oldest-pass", Value: strconv.Itoa(r.OldestPass)}}
	}
	return out
}

func dmarcResult(r *dmarc.Result) authres.Result {
	out := authres.Result{Method: "dmarc", Value: string(r.Status), Reason: r.Reason}
	if r.Record != nil {
		out.Comment = fmt.Sprintf("p=%s dis=%s", r.Published, r.Disposition())
	}
	if r.AuthorDomain != "" {
		out.Props = []authres.Prop{{Type: "header", Name: "from", Value: r.AuthorDomain}}
	}
	return out
}
