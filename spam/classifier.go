package spam

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options change how a Classifier works. The zero Options, or nil, mean defaults.
type Options struct {
	// SeenFor is how long the ids of learned messages are remembered. Zero means 400 days,
	// negative for ever.
	SeenFor time.Duration

	// Refresh is how often Score looks for what other processes learned. Zero means 5 s,
	// negative never.
	Refresh time.Duration

	// UserMost bounds what one user may teach the model that all share: this many messages
	// of each label, or as many as all others together when that is more. What is beyond
	// teaches the user's own model only. Zero means 1,000, negative any number. Learning for
	// the empty user has no bound.
	UserMost int

	// LearnFor is how long the shared model remembers a message: an older one is forgotten
	// as [Classifier.Forget] does it. Zero or negative means for ever.
	LearnFor time.Duration

	// Users limits how many users' own models are in memory (64 KiB each). Zero means 1,000.
	Users int

	// Now replaces time.Now in tests.
	Now func() time.Time
}

// A Classifier judges messages by what it learned from others. There is a model that all
// users share and a small one for each user, who is named by any string; the empty user has
// no own model. All methods are safe for concurrent use. Score never waits for Learn.
type Classifier struct {
	store  Store
	keeper Keeper // nil when store is none
	opt    Options

	current   atomic.Pointer[snapshot]
	users     sync.Map   // user → *atomic.Pointer[userModel]
	userMu    sync.Mutex // reading a user's model from the store, or adding to it
	userN     atomic.Int64
	refresh   atomic.Int64 // when to look at the store next, Unix nanoseconds
	mu        sync.Mutex   // learning: guards all below
	spare     *snapshot
	behind    []Cell // what spare lacks
	position  uint64
	kept      [2]samples // of ham, of spam
	balance   float64    // how much of what came lately was spam
	scratch   features
	weighed   []weighed
	forgotten features
	expired   int64 // the day of the last expire
	deltas    []Cell
}

// A snapshot is a model that does not change while it is read. There are two: one is read
// while the other one learns; then they change places.
type snapshot struct {
	model
	readers atomic.Int64
}

// NewClassifier returns a classifier with all that store holds. A nil opt means defaults.
func NewClassifier(ctx context.Context, store Store, opt *Options) (*Classifier, error) {
	c := &Classifier{store: store, balance: 0.5}
	if opt != nil {
		c.opt = *opt
	}
	if c.opt.SeenFor == 0 {
		c.opt.SeenFor = 400 * 24 * time.Hour
	}
	if c.opt.Refresh == 0 {
		c.opt.Refresh = 5 * time.Second
	}
	if c.opt.UserMost == 0 {
		c.opt.UserMost = 1000
	}
	if c.opt.Users <= 0 {
		c.opt.Users = 1000
	}
	if c.opt.Now == nil {
		c.opt.Now = time.Now
	}
	c.keeper, _ = store.(Keeper)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.reload(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads all from the store, as if it were new.
func (c *Classifier) reload(ctx context.Context) error {
	cells, position, err := c.store.Load(ctx, "", 0)
	if err != nil {
		return fmt.Errorf("spam: load model: %w", err)
	}
	s := &snapshot{model: *newModel()}
	for d, err := range cells {
		if err != nil {
			return fmt.Errorf("spam: load model: %w", err)
		}
		s.apply(&d)
	}
	if v := s.cell(cellVersion); v.spam > 0 && v.ham != v.spam*TokenizerVersion {
		return ErrTokenizer
	}
	c.position = position
	c.spare = &snapshot{model: s.clone()}
	c.behind = c.behind[:0]
	c.current.Store(s)
	c.refresh.Store(c.opt.Now().Add(c.opt.Refresh).UnixNano())
	c.users.Clear()
	c.userN.Store(0)
	return c.loadSamples(ctx)
}

// ErrTokenizer is returned when a model was learned with another TokenizerVersion. It has to
// be removed and learned again.
var ErrTokenizer = errors.New("spam: the model was learned with another version of the tokenizer")

func (c *Classifier) loadSamples(ctx context.Context) error {
	c.kept = [2]samples{{rand: 1}, {rand: 2}}
	if c.keeper == nil {
		return nil
	}
	kept, err := c.keeper.Kept(ctx, "")
	if err != nil {
		return fmt.Errorf("spam: load samples: %w", err)
	}
	t := c.current.Load().cell(cellTotals)
	// While one class is missing nothing is learned from the other yet: see learnShared.
	fresh := t.ham == 0 || t.spam == 0
	for slot, data := range kept {
		if slot >= 2*samplesPerClass {
			continue
		}
		s := &c.kept[slot/samplesPerClass]
		slot %= samplesPerClass
		if _, ok := unpackSample(data, &c.scratch); !ok {
			continue
		}
		for uint32(len(s.slots)) <= slot {
			s.slots = append(s.slots, sample{})
		}
		s.set(slot, data, fresh)
	}
	for i := range c.kept {
		for slot := range c.kept[i].slots {
			if c.kept[i].slots[slot].data == nil {
				c.kept[i].free = append(c.kept[i].free, uint32(slot))
			}
		}
		slices.Sort(c.kept[i].fresh) // whatever order the store has
	}
	c.kept[0].came, c.kept[1].came = uint64(max(t.ham, 0)), uint64(max(t.spam, 0))
	return nil
}

// acquire returns the snapshot to read, which stays as it is until release.
func (c *Classifier) acquire() *snapshot {
	for {
		s := c.current.Load()
		s.readers.Add(1)
		if c.current.Load() == s {
			return s
		}
		s.readers.Add(-1) // it was retired between the two lines
	}
}

func (s *snapshot) release() { s.readers.Add(-1) }

// begin returns the snapshot that may be changed, as far as the current one. The caller holds
// the lock.
func (c *Classifier) begin() *snapshot {
	s := c.spare
	for s.readers.Load() != 0 {
		// A reader that came before the last change still sums up: microseconds.
		yield()
	}
	for i := range c.behind {
		s.apply(&c.behind[i])
	}
	c.behind = c.behind[:0]
	return s
}

// publish makes s, changed by deltas, what Score reads.
func (c *Classifier) publish(s *snapshot, deltas []Cell) {
	c.behind = append(c.behind, deltas...)
	c.spare = c.current.Swap(s)
}

// Learn takes m as an example of label l, once: a second call with the same id and label does
// nothing, one with another label moves the message there, and [Unlabelled] forgets it, as
// Unlearn does. [Neutral] is remembered and counts for nothing. The id is one under which the
// same message comes again, for this user; an empty one means the message's content. It fails
// only if the store does.
func (c *Classifier) Learn(ctx context.Context, user, id string, m *Message, l Label) error {
	if l > Neutral {
		return fmt.Errorf("spam: learn: no label %d", l)
	}
	f := m.tokens()
	if id == "" {
		sum := sha256.Sum256(m.raw)
		id = string(sum[:16])
	}
	from := c.origin(user, id, m)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.expire(ctx); err != nil {
		return fmt.Errorf("spam: learn: %w", err)
	}
	shared := l
	if user != "" {
		before, err := c.store.SetSeen(ctx, userName(user), id, l, c.opt.SeenFor)
		if err != nil || before == l {
			return err
		}
		if shared, err = c.learnUser(ctx, user, before, f, l); err != nil {
			return fmt.Errorf("spam: learn for %s: %w", user, err)
		}
	}
	if err := c.learnShared(ctx, &from, f, shared); err != nil {
		return fmt.Errorf("spam: learn: %w", err)
	}
	return nil
}

func (c *Classifier) origin(user, id string, m *Message) origin {
	sum := sha256.Sum256([]byte(user + "\x00" + id))
	return origin{
		key: markKey(sum[:16]), user: nameHash(user), sender: nameHash(m.From.Addr), domain: nameHash(m.From.Domain()),
		days: uint32(c.opt.Now().Unix() / secondsOfDay),
	}
}

// Unlearn takes back what Learn did with this message: exactly in the counts, and as far as
// possible in the weights of the regression.
func (c *Classifier) Unlearn(ctx context.Context, user, id string, m *Message) error {
	return c.Learn(ctx, user, id, m, Unlabelled)
}

func counted(l Label) bool { return l == Ham || l == Spam }

func target(l Label) float64 {
	switch l {
	case Spam:
		return 1
	case Ham:
		return 0
	}
	return 0.5
}

func (c *Classifier) learnShared(ctx context.Context, from *origin, f *features, l Label) error {
	before, err := c.store.SetSeen(ctx, "", string(from.key[:]), l, c.opt.SeenFor)
	if err != nil || before == l || !counted(before) && !counted(l) {
		return err
	}
	s := c.begin()
	d := c.deltas[:0]
	if v := s.cell(cellVersion); v.spam == 0 {
		mark := Cell{Index: cellVersion, Ham: TokenizerVersion, Spam: 1}
		s.apply(&mark)
		d = append(d, mark)
	}
	if counted(before) {
		d = s.count(f, before, -1, d)
		err = c.dropSample(ctx, before, from.key)
	}
	if !counted(l) {
		if s.ready() {
			d = s.step(f, 0.5, d, -1)
		}
	} else {
		if s.ready() {
			d = c.observe(s, f, l, Unlabelled, d)
		}
		d = s.count(f, l, 1, d)
		var kept error
		d, kept = c.learnBalanced(ctx, s, from, f, l, d)
		err = errors.Join(err, kept)
	}
	c.deltas = d
	c.publish(s, d)
	return errors.Join(err, c.store.Add(ctx, "", d))
}

// ready reports whether both classes are known. Before that the regression can learn nothing
// but that all mail is the same.
func (m *model) ready() bool {
	t := m.cell(cellTotals)
	return t.ham > 0 && t.spam > 0
}

// learnBalanced lets the regression learn f and, where one class comes without the other for
// long, samples of the other: it would forget that class otherwise. Mail that came before
// there was any of the other class is learned in this way only.
func (c *Classifier) learnBalanced(ctx context.Context, s *snapshot, from *origin, f *features, l Label, d []Cell) ([]Cell, error) {
	ready := s.ready()
	var err error
	if slot, ok := c.kept[l-Ham].choose(); ok {
		data := packSample(f, l, from)
		c.kept[l-Ham].set(slot, data, !ready)
		if c.keeper != nil {
			err = c.keeper.Keep(ctx, "", slot+uint32(l-Ham)*samplesPerClass, data)
		}
	}
	if !ready {
		return d, err
	}
	c.balance += (target(l) - c.balance) / 50
	d = s.step(f, target(l), d, len(d)-len(f.words))

	other := Ham + Spam - l
	share := math.Abs(target(l) - c.balance) // of the other class
	again := 0
	switch {
	case share < 0.05:
		again = 2
	case share < 0.15:
		again = 1
	}
	k := &c.kept[other-Ham]
	if more := len(k.fresh) - k.reserve(); more > 0 {
		again = min(3, max(again, more))
	}
	if again == 0 {
		return d, err
	}
	for range again {
		data, fresh := k.next()
		if sl, ok := unpackSample(data, &c.scratch); !ok || sl != other {
			continue
		}
		if fresh {
			d = c.observe(s, &c.scratch, other, other, d)
		}
		d = s.step(&c.scratch, target(other), d, -1)
	}
	// The mix and the threshold have to see both classes, too.
	if sl, ok := unpackSample(k.reserved(), &c.scratch); ok && sl == other {
		d = c.observe(s, &c.scratch, other, other, d)
	}
	return d, err
}

// observe learns how to mix the two scores from a message that the regression has not seen:
// only then do they tell what they are worth. Counted is the label under which the words were
// counted already.
func (c *Classifier) observe(s *snapshot, f *features, l, counted Label, d []Cell) []Cell {
	t := s.cell(cellTotals)
	if min(t.ham, t.spam) < mixAfter {
		return d
	}
	var op opinion
	op, c.weighed = s.weigh(f, counted, c.weighed[:0])
	words, regression := op.words(), math.Max(-mixMost, math.Min(mixMost, op.regression()))
	mx := &op.mix
	z := mx.regression*regression + mx.words*words + mx.bias
	g := sigmoid(z) - target(l)
	for _, in := range [...]struct {
		cell  uint32
		value float64
	}{{cellMixFirst, regression}, {cellMixSecond, words}, {cellMixBias, 1}} {
		gi := g * in.value
		m := Cell{Index: in.cell, Square: float32(gi * gi)}
		m.Weight = float32(-mixRate * gi / math.Sqrt(mixBase+float64(s.cell(in.cell).square+m.Square)))
		s.apply(&m)
		d = append(d, m)
	}
	if l == Ham && min(t.ham, t.spam) >= thresholdAfter {
		// The threshold rises with each ham above it and falls with the others, so that it
		// settles where the wanted share of ham is above.
		m := Cell{Index: cellThreshold, Weight: -thresholdStep * wantedFalse}
		if op.score() > 0 {
			m.Weight += thresholdStep
		}
		if now := s.cell(cellThreshold).weight + m.Weight; now >= 0 && now <= thresholdMost*2 {
			s.apply(&m)
			d = append(d, m)
		}
	}
	return d
}

// How the mix learns: slowly, and from the time on when both scores mean something.
const (
	mixAfter = 50
	mixRate  = 0.05
	mixBase  = 10
	mixMost  = 12 // a score of the regression counts for no more

	wantedFalse    = 0.0015 // of ham is taken for spam
	thresholdAfter = 300    // errors of the first lessons say nothing on later ones
	thresholdStep  = 0.4
	thresholdMost  = 3
)

// Score judges a message for a user by all that was learned before. It does not wait for
// anybody who learns. It fails only when the user's model has to be read from the store and
// the store fails.
func (c *Classifier) Score(ctx context.Context, user string, m *Message) (Verdict, error) {
	f := m.tokens()
	c.refreshLater(ctx)
	u, err := c.user(ctx, user)
	if err != nil {
		return Verdict{Unsure: true, Probability: 0.5}, fmt.Errorf("spam: score for %s: %w", user, err)
	}
	s := c.acquire()
	defer s.release()
	return s.judge(f, u), nil
}

// refreshLater applies what other processes learned, at most once in Options.Refresh and
// never while somebody learns.
func (c *Classifier) refreshLater(ctx context.Context) {
	if c.opt.Refresh < 0 {
		return
	}
	now, due := c.opt.Now().UnixNano(), c.refresh.Load()
	if now < due || !c.refresh.CompareAndSwap(due, now+int64(c.opt.Refresh)) || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	cells, position, err := c.store.Load(ctx, "", c.position)
	if errors.Is(err, ErrTooOld) {
		// What can not be read now is read at the next turn; the model stays as it is.
		_ = c.reload(ctx)
		return
	}
	if err != nil {
		return
	}
	var d []Cell
	for cell, err := range cells {
		if err != nil {
			return
		}
		d = append(d, cell)
	}
	c.position = position
	if len(d) == 0 {
		return
	}
	s := c.begin()
	for i := range d {
		s.apply(&d[i])
	}
	c.publish(s, d)
}

// Stats says how much was learned.
type Stats struct {
	Ham, Spam int // messages that count
	Words     int // cells of words that are in use, of 262,144
	Kept      int // samples kept to be learned again, of 4,096
}

// Stats returns the state of the model that all users share.
func (c *Classifier) Stats() Stats {
	s := c.acquire()
	t := s.cell(cellTotals)
	st := Stats{Ham: int(t.ham), Spam: int(t.spam)}
	for i := range s.words[:cellCount-wordBase] {
		if c := &s.words[i]; c.ham|c.spam != 0 {
			st.Words++
		}
	}
	s.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.kept {
		st.Kept += len(k.slots) - len(k.free)
	}
	return st
}
