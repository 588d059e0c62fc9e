package spam

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// mostReasons is how many reasons of a verdict stand by themselves; one more sums up the rest.
const mostReasons = 12

var weighedPool = sync.Pool{New: func() any { return new([]weighed) }}

// logOdds returns the score of a message for a user, who may be nil.
func (m *model) logOdds(f *features, u *userModel) float64 {
	list := weighedPool.Get().(*[]weighed)
	op, l := m.weigh(f, Unlabelled, (*list)[:0])
	*list = l
	weighedPool.Put(list)
	z := op.score()
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
	pooled := weighedPool.Get().(*[]weighed)
	defer weighedPool.Put(pooled)
	op, list := m.weigh(f, Unlabelled, (*pooled)[:0])
	*pooled = list
	mx := &op.mix

	// What the text says for ham beyond its bound is taken from each of its good words alike.
	good := 1.0
	bytes := mx.regression * op.gramText
	headBytes := mx.regression * op.gramHead
	z := op.score()
	if over := -op.textMost - op.text(); over > 0 {
		sum := math.Min(bytes, 0)
		for _, w := range list[f.textWords:] {
			sum += math.Min(mx.regression*op.scales.wordText*float64(w.weight)+mx.words*op.oddsTextScale*float64(w.odds), 0)
		}
		good = 1 + over/sum
		if bytes < 0 {
			bytes *= good
		}
	}

	top := make([]Reason, 0, mostReasons+4)
	least := 0.0 // what a reason has to weigh when top is full
	userScale := 0.0
	if u != nil {
		userScale = f.userScale()
		z += u.score(f)
	}
	weight, odds := mx.regression*op.scales.wordHead, mx.words*op.oddsHeadScale
	for i := range list {
		if i == f.textWords {
			weight, odds = mx.regression*op.scales.wordText, mx.words*op.oddsTextScale
		}
		part := weight*float64(list[i].weight) + odds*float64(list[i].odds)
		if part < 0 && i >= f.textWords {
			part *= good
		}
		w := &f.words[i]
		if u != nil {
			part += userScale * float64(u.weights[userCell(w.cell)].weight)
		}
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
	rest := z - mx.bias - bytes - headBytes
	for i := range top {
		rest -= top[i].Score
		top[i].Text = printable(top[i].Text)
	}
	top = append(top, Reason{Name: "bytes-of-head", Score: headBytes}, Reason{Name: "bytes-of-text", Score: bytes},
		Reason{Name: "other-words", Score: rest}, Reason{Name: "prior", Score: mx.bias})
	sortReasons(top)

	v := Verdict{Score: z, Probability: sigmoid(z), Reasons: top}
	v.Unsure = m.unsure(f, op.known, z)
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
	doubtOfFew     = 250.0 // log-odds, divided by the messages of the class of which fewer are known
	doubtMost      = 10.0
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
