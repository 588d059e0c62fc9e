package spam

import (
	"math"
	"slices"
)

// A cell of a model in memory. Cells of byte strings have no counts.
type cell struct {
	weight, square float32
	ham, spam      int32
}

// The cells after the features' own hold what belongs to the model as a whole.
const (
	cellTotals    = cellCount + iota // Ham, Spam: messages learned; Weight, Square: the bias of the regression
	cellMixFirst                     // Weight: how much the regression counts, from its prior; Ham, Spam: observations
	cellMixSecond                    // Weight: the same of the words
	cellMixBias                      // Weight: the same of the constant
	cellVersion                      // Ham: the sum of the tokenizer versions that wrote, Spam: how many did
	cellThreshold                    // Weight: how far the threshold stands above even odds
	cellsInAll
)

// How the regression learns. The values were found on mail of 1999 to 2024, and little
// depends on their exact size.
const (
	learnRate  = 0.3
	squareBase = 1e-4 // keeps the first step finite
	learnLeast = 1e-5 // what is known as well as that is not learned again
	gramWeight = 1.0
	wordWeight = 1.4

	wordPrior   = 0.03 // messages of each class that are thought to have held any word
	wordDoubt   = 0.4  // messages after which a word's log-odds count half
	wordMost    = 6.0  // no word counts for more
	wordSilence = 0.3  // and words that say less say nothing
)

// A model is all that was learned, of fixed size. It is not safe for concurrent use.
type model struct {
	grams []gramCell // of the strings of bytes
	words []cell     // of words, and what belongs to the model as a whole
}

type gramCell struct{ weight, square float32 }

func newModel() *model {
	return &model{grams: make([]gramCell, wordBase), words: make([]cell, cellsInAll-wordBase)}
}

func (m *model) clone() model { return model{slices.Clone(m.grams), slices.Clone(m.words)} }

// cell returns the cell of a word, or of the model as a whole.
func (m *model) cell(index uint32) *cell { return &m.words[index-wordBase] }

func (m *model) apply(d *Cell) {
	switch {
	case d.Index < wordBase:
		c := &m.grams[d.Index]
		c.weight += d.Weight
		c.square += d.Square
	case d.Index < cellsInAll: // others are of a later version
		m.cell(d.Index).add(d)
	}
}

// regression returns the log-odds that the regression sees.
func (m *model) regression(f *features) float64 {
	gx, wx := scales(f)
	var words float32
	for i := range f.words {
		words += m.cell(f.words[i].cell).weight
	}
	return float64(m.cell(cellTotals).weight) + float64(m.gramSum(f))*gx + float64(words)*wx
}

func (m *model) gramSum(f *features) (sum float32) {
	grams := m.grams[:wordBase]
	for _, i := range f.grams {
		sum += grams[i].weight
	}
	return sum
}

// scales returns the values of the features that are present: messages of any length weigh
// the same.
func scales(f *features) (gram, word float64) {
	return gramWeight / math.Sqrt(float64(len(f.grams)+50)), wordWeight / math.Sqrt(float64(len(f.words)+20))
}

// step moves the weights towards a probability for one message (AdaGrad), and appends what
// it did to deltas. Where the words of f were counted, counted is where in deltas.
func (m *model) step(f *features, target float64, deltas []Cell, counted int) []Cell {
	g := sigmoid(m.regression(f)) - target
	if math.Abs(g) < learnLeast {
		return deltas
	}
	gx, wx := scales(f)
	g1 := float32(g * gx)
	for _, i := range f.grams {
		c := &m.grams[i]
		c.square += g1 * g1
		move := -learnRate * g1 / sqrt(squareBase+c.square)
		c.weight += move
		deltas = append(deltas, Cell{Index: i, Square: g1 * g1, Weight: move})
	}
	g1 = float32(g * wx)
	for i := range f.words {
		index := f.words[i].cell
		c := m.cell(index)
		c.square += g1 * g1
		move := -learnRate * g1 / sqrt(squareBase+c.square)
		c.weight += move
		if counted >= 0 {
			d := &deltas[counted+i]
			d.Square, d.Weight = g1*g1, move
			continue
		}
		deltas = append(deltas, Cell{Index: index, Square: g1 * g1, Weight: move})
	}
	return deltas
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// count adds n messages of a label to the counts. The deltas of the words stand at the end.
func (m *model) count(f *features, l Label, n int32, deltas []Cell) []Cell {
	d := Cell{Index: cellTotals}
	if l == Spam {
		d.Spam = n
	} else {
		d.Ham = n
	}
	m.apply(&d)
	deltas = append(deltas, d)
	for i := range f.words {
		d.Index = f.words[i].cell
		m.cell(d.Index).add(&d)
		deltas = append(deltas, d)
	}
	return deltas
}

// A wordOdds turns counts to log-odds. Without says which label the message that is judged
// was counted under, so that it does not speak for itself.
type wordOdds struct {
	ham, spam         float64 // messages
	lessHam, lessSpam float64
	base              float64 // the log of the ratio of the class sizes
}

func (m *model) wordOdds(without Label) wordOdds {
	t := m.cell(cellTotals)
	o := wordOdds{ham: float64(t.ham), spam: float64(t.spam)}
	switch without {
	case Ham:
		o.lessHam = 1
	case Spam:
		o.lessSpam = 1
	}
	o.base = math.Log((math.Max(o.spam-o.lessSpam, 0) + 1) / (math.Max(o.ham-o.lessHam, 0) + 1))
	return o
}

// of returns how far one word speaks for spam, or 0.
func (o *wordOdds) of(c *cell) float64 {
	s, h := float64(c.spam)-o.lessSpam, float64(c.ham)-o.lessHam
	if s < 0 || h < 0 || s+h == 0 {
		s, h = math.Max(s, 0), math.Max(h, 0)
		if s+h == 0 {
			return 0
		}
	}
	l := fastLog(float32((s+wordPrior)/(h+wordPrior))) - o.base
	l *= (s + h) / (s + h + wordDoubt)
	switch {
	case l > wordMost:
		return wordMost
	case l < -wordMost:
		return -wordMost
	case l < wordSilence && l > -wordSilence:
		return 0
	}
	return l
}

// wordSum returns the words' log-odds, added as if half of them repeated each other, and how
// many words were known.
func (m *model) wordSum(f *features, without Label) (z float64, scale float64, known int) {
	o := m.wordOdds(without)
	var sum float64
	n := 0
	for i := range f.words {
		c := m.cell(f.words[i].cell)
		if c.ham|c.spam != 0 {
			known++
		}
		if l := o.of(c); l != 0 {
			sum += l
			n++
		}
	}
	scale = 1 / math.Sqrt(float64(n)+1)
	return sum * scale, scale, known
}

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

// fastLog is the natural logarithm of a positive number to three digits, for the loop over
// words.
func fastLog(x float32) float64 {
	b := math.Float32bits(x)
	e := int32(b>>23) - 127
	f := math.Float32frombits(b&0x7fffff | 0x3f800000)
	l := (-0.33582878*f+2)*f - 1.65871022 // log2 of 1..2
	return float64(float32(e)+l) * math.Ln2
}

// The mix of the two scores before anything is known of their worth.
const (
	mixRegression = 0.9
	mixWords      = 0.15
	mixBias       = 0.5
)

// A mix turns the scores of the regression and of the words into log-odds.
type mix struct{ regression, words, bias float64 }

// The words never lose their voice: where the regression proves wrong, by wrong labels or new
// kinds of mail, they are what is left.
const mixWordsLeast = 0.12

func (m *model) mix() mix {
	x := mix{
		regression: math.Max(mixRegression+float64(m.cell(cellMixFirst).weight), 0.05),
		words:      math.Max(mixWords+float64(m.cell(cellMixSecond).weight), mixWordsLeast),
		bias:       mixBias + float64(m.cell(cellMixBias).weight),
	}
	// Where labels are wrong the odds are small, and so may be the distance.
	x.bias -= math.Max(0, math.Min(float64(m.cell(cellThreshold).weight), thresholdMost*x.regression))
	return x
}
