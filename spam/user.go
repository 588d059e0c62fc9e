package spam

import (
	"context"
	"math"
	"runtime"
	"sync/atomic"
)

func yield() { runtime.Gosched() }

// A userModel is what one user's mail differs in: a small regression over the words, added to
// the shared one. It never changes; learning makes a new one.
type userModel struct {
	weights [userCells]struct{ weight, square float32 }
	ham     int32 // messages
	spam    int32
}

const (
	userBits  = 13
	userCells = 1 << userBits
)

func userCell(word uint32) uint32 { return word * 0x9E3779B1 >> (32 - userBits) }

func (u *userModel) score(f *features) float64 {
	var sum float32
	for i := range f.words {
		sum += u.weights[userCell(f.words[i].cell)].weight
	}
	return float64(sum) * f.userScale()
}

func (f *features) userScale() float64 { return userWeight / math.Sqrt(float64(len(f.words)+20)) }

// user returns a user's model, or nil for one without.
func (c *Classifier) user(ctx context.Context, name string) (*userModel, error) {
	if name == "" {
		return nil, nil
	}
	if p, ok := c.users.Load(name); ok {
		return p.(*atomic.Pointer[userModel]).Load(), nil
	}
	c.userMu.Lock()
	defer c.userMu.Unlock()
	if p, ok := c.users.Load(name); ok {
		return p.(*atomic.Pointer[userModel]).Load(), nil
	}
	cells, _, err := c.store.Load(ctx, userName(name), 0)
	if err != nil {
		return nil, err
	}
	u := &userModel{}
	found := false
	for d, err := range cells {
		if err != nil {
			return nil, err
		}
		found = true
		switch {
		case d.Index < userCells:
			u.weights[d.Index].weight += d.Weight
			u.weights[d.Index].square += d.Square
		case d.Index == cellTotals:
			u.ham += d.Ham
			u.spam += d.Spam
		}
	}
	if !found {
		u = nil
	}
	p := &atomic.Pointer[userModel]{}
	p.Store(u)
	if c.userN.Add(1) > int64(c.opt.Users) {
		c.users.Range(func(k, _ any) bool { // any one: it can be loaded again
			c.users.Delete(k)
			c.userN.Add(-1)
			return false
		})
	}
	c.users.Store(name, p)
	return u, nil
}

func userName(user string) string { return "user/" + user }

// learnUser corrects a user's own model where the shared one and it are wrong together. It
// returns the label under which the shared model may learn the message. The caller holds the
// lock.
func (c *Classifier) learnUser(ctx context.Context, user string, before Label, f *features, l Label) (shared Label, err error) {
	if !counted(before) && !counted(l) {
		return l, nil
	}
	model := userName(user)
	old, err := c.user(ctx, user)
	if err != nil {
		return l, err
	}
	u := &userModel{}
	if old != nil {
		*u = *old
	}
	shared = c.capped(u, l)
	count := Cell{Index: cellTotals}
	add := func(l Label, n int32) {
		switch l {
		case Ham:
			count.Ham += n
		case Spam:
			count.Spam += n
		}
	}
	add(before, -1)
	add(l, 1)
	u.ham += count.Ham
	u.spam += count.Spam
	deltas := []Cell{count}

	s := c.acquire()
	g := sigmoid(s.logOdds(f, u)) - target(l)
	s.release()
	g *= f.userScale()
	if math.Abs(g) > 1e-6 {
		for i := range f.words {
			n := userCell(f.words[i].cell)
			w := &u.weights[n]
			d := Cell{Index: n, Square: float32(g * g)}
			w.square += d.Square
			d.Weight = float32(-userRate * g / math.Sqrt(squareBase+float64(w.square)))
			w.weight += d.Weight
			deltas = append(deltas, d)
		}
	}
	c.userMu.Lock()
	defer c.userMu.Unlock()
	if err := c.store.Add(ctx, model, deltas); err != nil {
		return l, err
	}
	if p, ok := c.users.Load(user); ok {
		p.(*atomic.Pointer[userModel]).Store(u)
	}
	return shared, nil
}

// capped returns l, or Neutral when the user has taught the shared model enough of it.
func (c *Classifier) capped(u *userModel, l Label) Label {
	if c.opt.UserMost < 0 || !counted(l) {
		return l
	}
	t := c.current.Load().cell(cellTotals)
	mine, all := u.ham, t.ham
	if l == Spam {
		mine, all = u.spam, t.spam
	}
	if int(mine) < c.opt.UserMost || mine < all-mine {
		return l
	}
	return Neutral
}

const (
	userRate   = 0.3 // how fast a user's own model learns
	userWeight = 1.4
)
