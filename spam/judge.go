package spam

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
)

// mostReasons is how many reasons of a verdict stand by themselves; one more sums up the rest.
const mostReasons = 12

// logOdds returns the score of a message for a user, who may be nil.
func (m *model) logOdds(f *features, u *userModel) float64 {
	mx := m.mix()
	w, _, _ := m.wordSum(f, Unlabelled)
	z := mx.bias + mx.regression*m.regression(f) + mx.words*w
	if u != nil {
		z += u.score(f)
	}
	return z
}

// judge makes the verdict on a message.
func (m *model) judge(f *features, u *userModel) Verdict {
	if !m.ready() {
		return Verdict{Probability: 0.5, Unsure: true}
	}
	mx := m.mix()
	_, scale, known := m.wordSum(f, Unlabelled)
	gx, wx := scales(f)

	grams := m.gramSum(f)
	bias := mx.bias + mx.regression*float64(m.cell(cellTotals).weight)
	bytes := mx.regression * gx * float64(grams)
	z := bias + bytes

	o := m.wordOdds(Unlabelled)
	top := make([]Reason, 0, mostReasons+4)
	least := 0.0 // what a reason has to weigh when top is full
	var userScale float64
	if u != nil {
		userScale = wx
	}
	for i := range f.words {
		w := &f.words[i]
		c := m.cell(w.cell)
		part := mx.regression*wx*float64(c.weight) + mx.words*scale*o.of(c)
		if u != nil {
			part += userScale * float64(u.weights[userCell(w.cell)].weight)
		}
		z += part
		if a := math.Abs(part); a > least {
			top = append(top, Reason{Name: kindNames[w.kind], Text: w.text, Score: part})
			if len(top) == cap(top) {
				sortReasons(top)
				top = top[:mostReasons]
				least = math.Abs(top[mostReasons-1].Score)
			}
		}
	}
	sortReasons(top)
	top = top[:min(len(top), mostReasons)]
	rest := z - bias - bytes
	for i := range top {
		rest -= top[i].Score
		top[i].Text = printable(top[i].Text)
	}
	top = append(top, Reason{Name: "bytes-of-head", Score: bytes}, Reason{Name: "other-words", Score: rest}, Reason{Name: "prior", Score: bias})
	sortReasons(top)

	v := Verdict{Score: z, Probability: sigmoid(z), Reasons: top}
	v.Unsure = m.unsure(f, known, z)
	if z > 0 && !v.Unsure {
		v.Action = Junk
	}
	return v
}

// unsure reports whether too little is known for a decision: a message is called spam by so
// much more evidence as fewer were learned, and much more where it came another way than all
// mail that was learned.
func (m *model) unsure(f *features, known int, z float64) bool {
	t := m.cell(cellTotals)
	least := min(t.ham, t.spam)
	if least < 5 || known*5 < len(f.words) {
		return true
	}
	margin := math.Min(doubtOfFew/float64(least), doubtMost)
	received := m.cell(receivedCell)
	share := float64(received.ham+received.spam) / float64(t.ham+t.spam)
	if f.received && share < 0.02 || !f.received && share > 0.98 {
		margin += doubtOfForeign
	}
	return z > 0 && z < margin
}

const (
	doubtOfFew     = 150.0 // log-odds, divided by the messages of the class of which fewer are known
	doubtMost      = 6.0
	doubtOfForeign = 4.5
)

func sortReasons(r []Reason) {
	slices.SortFunc(r, func(a, b Reason) int { return cmp.Compare(math.Abs(b.Score), math.Abs(a.Score)) })
}

// printable makes a word fit for headers and logs.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
