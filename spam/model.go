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
	cellTotals    = cellCount + iota // Ham, Spam: messages learned
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
	learnLeast = 5e-3 // what is known as well as that is not learned again

	gramWeight     = 1.0
	gramTextWeight = 0.7
	wordWeight     = 2.0
	wordTextWeight = 1.0

	// The text speaks for ham no louder than this, in log-odds: good words cost a spammer
	// nothing.
	textMost = 2.0
	fewWords = 40 // of a head that says little; then the text may say more

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

// Scales are the values of the features that are present. They stand in four blocks, and a
// block weighs the same however long it is.
type scales struct{ gramHead, gramText, wordHead, wordText float64 }

func (f *features) scales() scales {
	of := func(weight float64, n, base int) float64 { return weight / math.Sqrt(float64(n+base)) }
	return scales{
		of(gramWeight, f.textGrams, 50), of(gramTextWeight, len(f.grams)-f.textGrams, 50),
		of(wordWeight, f.textWords, 20), of(wordTextWeight, len(f.words)-f.textWords, 20),
	}
}

// regression returns the log-odds that the regression sees without its bias: of the head and
// of the text.
func (m *model) regression(f *features) (head, text float64) {
	x := f.scales()
	head, text = x.gramHead*m.gramSum(f.grams[:f.textGrams]), x.gramText*m.gramSum(f.grams[f.textGrams:])
	return head + x.wordHead*m.weightSum(f.words[:f.textWords]), text + x.wordText*m.weightSum(f.words[f.textWords:])
}

func (m *model) gramSum(grams []uint32) float64 {
	var sum float32
	cells := m.grams[:wordBase]
	for _, i := range grams {
		sum += cells[i].weight
	}
	return float64(sum)
}

func (m *model) weightSum(words []word) float64 {
	var sum float32
	for i := range words {
		sum += m.cell(words[i].cell).weight
	}
	return float64(sum)
}

// step moves the weights towards a probability for one message (AdaGrad), and appends what
// it did to deltas. Where the words of f were counted, counted is where in deltas.
func (m *model) step(f *features, target float64, deltas []Cell, counted int) []Cell {
	head, text := m.regression(f)
	g := sigmoid(head+text) - target
	if math.Abs(g) < learnLeast {
		return deltas
	}
	x := f.scales()
	for n, i := range f.grams {
		gx := float32(g * x.gramHead)
		if n >= f.textGrams {
			gx = float32(g * x.gramText)
		}
		c := &m.grams[i]
		c.square += gx * gx
		move := -learnRate * gx / sqrt(squareBase+c.square)
		c.weight += move
		deltas = append(deltas, Cell{Index: i, Square: gx * gx, Weight: move})
	}
	for n := range f.words {
		gx := float32(g * x.wordHead)
		if n >= f.textWords {
			gx = float32(g * x.wordText)
		}
		index := f.words[n].cell
		c := m.cell(index)
		c.square += gx * gx
		move := -learnRate * gx / sqrt(squareBase+c.square)
		c.weight += move
		if counted >= 0 {
			d := &deltas[counted+n]
			d.Square, d.Weight = gx*gx, move
			continue
		}
		deltas = append(deltas, Cell{Index: index, Square: gx * gx, Weight: move})
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

// An opinion is what a model has to say on a message, part by part.
type opinion struct {
	mix           mix
	scales        scales
	gramHead      float64 // log-odds of the regression
	gramText      float64
	wordHead      float64
	wordText      float64
	oddsHead      float64 // log-odds of the words
	oddsText      float64
	oddsHeadScale float64
	oddsTextScale float64
	known         int     // words that were seen before
	textMost      float64 // the text speaks for ham no louder
}

// A weighed word has what its parts of the score are made of.
type weighed struct{ weight, odds float32 }

// weigh forms an opinion, and appends one weighed for each word to list.
func (m *model) weigh(f *features, without Label, list []weighed) (opinion, []weighed) {
	op := opinion{mix: m.mix(), scales: f.scales(), textMost: textMost}
	if f.textWords < fewWords {
		op.textMost *= fewWords / float64(max(f.textWords, 1))
	}
	op.gramHead = op.scales.gramHead * m.gramSum(f.grams[:f.textGrams])
	op.gramText = op.scales.gramText * m.gramSum(f.grams[f.textGrams:])
	o := m.wordOdds(without)
	block := func(words []word, scale float64) (weight, odds, oddsScale float64) {
		n := 0
		for i := range words {
			c := m.cell(words[i].cell)
			if c.ham|c.spam != 0 {
				op.known++
			}
			l := o.of(c)
			if l != 0 {
				n++
			}
			weight += float64(c.weight)
			odds += l
			list = append(list, weighed{c.weight, float32(l)})
		}
		// Words repeat each other: their odds are added as if half of them did.
		oddsScale = 1 / math.Sqrt(2*float64(n)+1)
		return weight * scale, odds * oddsScale, oddsScale
	}
	op.wordHead, op.oddsHead, op.oddsHeadScale = block(f.words[:f.textWords], op.scales.wordHead)
	op.wordText, op.oddsText, op.oddsTextScale = block(f.words[f.textWords:], op.scales.wordText)
	return op, list
}

func (op *opinion) regression() float64 { return op.gramHead + op.gramText + op.wordHead + op.wordText }

func (op *opinion) words() float64 { return op.oddsHead + op.oddsText }

// head returns the log-odds of all but the text.
func (op *opinion) head() float64 {
	return op.mix.bias + op.mix.regression*(op.gramHead+op.wordHead) + op.mix.words*op.oddsHead
}

// text returns the log-odds of the text, before they are bounded by textMost.
func (op *opinion) text() float64 {
	return op.mix.regression*(op.gramText+op.wordText) + op.mix.words*op.oddsText
}

// score returns the log-odds of the message.
func (op *opinion) score() float64 { return op.head() + math.Max(op.text(), -op.textMost) }

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
