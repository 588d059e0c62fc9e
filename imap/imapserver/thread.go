package imapserver

import (
	"context"
	"slices"
	"strings"
)

// A thread is a message and those below it; without a message, what joins the answers to
// one that is not there.
type thread struct {
	hit      *hit // nil: a dummy
	children []*thread
}

// first returns the message that stands for the thread: its own, or its first child's.
func (t *thread) first() *hit {
	for t.hit == nil {
		t = t.children[0]
	}
	return t.hit
}

func byDate(a, b *hit) int {
	if d := a.sent().Compare(b.sent()); d != 0 {
		return d
	}
	return a.pos - b.pos
}

func sortThreads(list []*thread) {
	slices.SortFunc(list, func(a, b *thread) int { return byDate(a.first(), b.first()) })
}

// threadsBySubject is ORDEREDSUBJECT (RFC 5256, BASE.6.4.THREAD).
func threadsBySubject(_ context.Context, hits []hit) ([]*thread, error) {
	sorted := make([]*hit, len(hits))
	for i := range hits {
		sorted[i] = &hits[i]
	}
	slices.SortFunc(sorted, func(a, b *hit) int {
		if d := strings.Compare(a.facts.subject, b.facts.subject); d != 0 {
			return d
		}
		return byDate(a, b)
	})
	var roots []*thread
	for _, h := range sorted {
		t := &thread{hit: h}
		if n := len(roots); n > 0 && roots[n-1].hit.facts.subject == h.facts.subject {
			roots[n-1].children = append(roots[n-1].children, t)
		} else {
			roots = append(roots, t)
		}
	}
	sortThreads(roots)
	return roots, nil
}

// family is the forest that references make, as a table: messages first, in the mailbox's
// order, then the ids that messages refer to but nobody has.
type family struct {
	parent   []int // -1: none
	children []int // how many
	steps    int   // done to find loops
}

func (f *family) add() int {
	f.parent = append(f.parent, -1)
	f.children = append(f.children, 0)
	return len(f.parent) - 1
}

// link makes child one of parent, unless that made a loop. It replaces a parent only when
// told to.
func (f *family) link(parent, child int, replace bool) {
	if f.parent[child] == parent || f.parent[child] >= 0 && !replace {
		return
	}
	f.unlink(child)
	if parent == child {
		return
	}
	if f.children[child] > 0 { // who has no children is nobody's ancestor
		for i := parent; i >= 0; i = f.parent[i] {
			if f.steps++; i == child {
				return
			}
		}
	}
	f.parent[child] = parent
	f.children[parent]++
}

func (f *family) unlink(child int) {
	if p := f.parent[child]; p >= 0 {
		f.children[p]--
		f.parent[child] = -1
	}
}

// threadsByReferences is REFERENCES (RFC 5256, BASE.6.4.THREAD), whose steps are numbered
// there.
func threadsByReferences(ctx context.Context, hits []hit) ([]*thread, error) {
	roots, err := linkReferences(ctx, hits)
	if err != nil {
		return nil, err
	}
	for _, t := range roots { // (4)
		if t.hit == nil {
			sortThreads(t.children)
		}
	}
	sortThreads(roots)
	roots = mergeSubjects(roots)
	sortAll(roots)
	sortThreads(roots)
	return roots, nil
}

// threadsByRefs is REFS (draft-ietf-morg-inthread, 3): as REFERENCES, but subjects join
// nothing, and the thread to which something came last is the last.
func threadsByRefs(ctx context.Context, hits []hit) ([]*thread, error) {
	roots, err := linkReferences(ctx, hits)
	if err != nil {
		return nil, err
	}
	sortAll(roots)
	last := make(map[*thread]*hit, len(roots))
	for _, root := range roots {
		for todo := []*thread{root}; len(todo) > 0; {
			t := todo[len(todo)-1]
			todo = append(todo[:len(todo)-1], t.children...)
			if h := t.hit; h != nil && (last[root] == nil || byArrival(last[root], h) < 0) {
				last[root] = h
			}
		}
	}
	slices.SortFunc(roots, func(a, b *thread) int { return byArrival(last[a], last[b]) })
	return roots, nil
}

func byArrival(a, b *hit) int {
	if d := a.arrival.Compare(b.arrival); d != 0 {
		return d
	}
	return a.pos - b.pos
}

// linkReferences makes threads of references alone: steps (1) to (3).
func linkReferences(ctx context.Context, hits []hit) ([]*thread, error) {
	var f family
	byID := make(map[string]int)
	for i := range hits {
		f.add()
		if id := hits[i].facts.id; id != "" {
			if _, taken := byID[id]; !taken {
				byID[id] = i
			}
		}
	}
	for i := range hits { // (1)
		last := -1
		for _, ref := range hits[i].facts.references {
			n, known := byID[ref]
			if !known {
				n = f.add()
				byID[ref] = n
			}
			if last >= 0 {
				f.link(last, n, false)
			}
			last = n
		}
		if last >= 0 {
			f.link(last, i, true)
		} else {
			f.unlink(i)
		}
		if i&255 == 0 || f.steps > 1<<16 {
			f.steps = 0
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
	}
	return f.prune(hits), nil
}

// prune makes the threads: dummies are left out, but for those at the top that hold more
// than one thread together (2, 3).
func (f *family) prune(hits []hit) (roots []*thread) {
	nodes := make([]*thread, len(f.parent))
	for i := range hits {
		nodes[i] = &thread{hit: &hits[i]}
	}
	for i := range hits {
		// The closest ancestor that is a message, or else the dummy at the top.
		up := f.parent[i]
		for up >= len(hits) && f.parent[up] >= 0 {
			up = f.parent[up]
		}
		// The dummies that were passed need not be passed again.
		for j := f.parent[i]; j >= len(hits) && j != up; {
			f.parent[j], j = up, f.parent[j]
		}
		switch {
		case up < 0:
			roots = append(roots, nodes[i])
			continue
		case nodes[up] == nil:
			nodes[up] = new(thread)
			roots = append(roots, nodes[up])
		}
		nodes[up].children = append(nodes[up].children, nodes[i])
	}
	for i, t := range roots {
		if t.hit == nil && len(t.children) == 1 {
			roots[i] = t.children[0]
		}
	}
	return roots
}

// mergeSubjects joins threads at the top that have the same base subject (5).
func mergeSubjects(roots []*thread) []*thread {
	table := make(map[string]*thread)
	for _, t := range roots {
		subject := t.first().facts.subject
		if subject == "" {
			continue
		}
		other := table[subject]
		if other == nil || other.hit != nil && (t.hit == nil || other.hit.facts.isReply && !t.hit.facts.isReply) {
			table[subject] = t
		}
	}
	var out []*thread
	for _, t := range roots {
		subject := t.first().facts.subject
		other := table[subject]
		switch {
		case subject == "" || other == t:
			out = append(out, t)
		case other.hit == nil && t.hit == nil:
			other.children = append(other.children, t.children...)
		case other.hit == nil, t.hit.facts.isReply && !other.hit.facts.isReply:
			other.children = append(other.children, t)
		default:
			// The one in the table came before: it is taken from the top in the end.
			dummy := &thread{children: []*thread{other, t}}
			table[subject] = dummy
			out = append(out, dummy)
		}
	}
	// A thread that a dummy took in is not at the top any more.
	taken := make(map[*thread]bool)
	for _, t := range table {
		if t.hit == nil {
			for _, child := range t.children {
				taken[child] = true
			}
		}
	}
	return slices.DeleteFunc(out, func(t *thread) bool { return taken[t] })
}

// sortAll sorts every set of siblings below the top (6). No order depends on another: all
// of them are messages.
func sortAll(roots []*thread) {
	for todo := slices.Clone(roots); len(todo) > 0; {
		t := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], t.children...)
		sortThreads(t.children)
	}
}

var threadAlgorithms = map[string]func(context.Context, []hit) ([]*thread, error){
	"ORDEREDSUBJECT": threadsBySubject,
	"REFERENCES":     threadsByReferences,
	"REFS":           threadsByRefs,
}

func (c *conn) cmdThread(ctx context.Context) reply    { return c.thread(ctx, false) }
func (c *conn) cmdUIDThread(ctx context.Context) reply { return c.thread(ctx, true) }

func (c *conn) thread(ctx context.Context, uid bool) reply {
	c.dec.SP()
	algorithm, is := threadAlgorithms[c.dec.Word()]
	if !is {
		c.dec.Fail("no such threading algorithm")
	}
	c.dec.SP()
	charset := c.dec.AString()
	c.dec.SP()
	query, p, refused := c.searchProgram(charset, searchReturn{})
	if refused != nil {
		return *refused
	}
	f, err := c.findHits(ctx, query, p, uid, true)
	if err != nil {
		return c.failed(err)
	}
	roots, err := algorithm(ctx, f.order)
	if err != nil {
		return c.failed(err)
	}
	c.enc.Raw("* THREAD")
	if len(roots) > 0 {
		c.enc.SP()
	}
	c.writeThreads(roots, uid)
	c.enc.CRLF()
	return ok("threaded")
}

// writeThreads writes each thread in parentheses. Threads may be as deep as mailboxes are
// long, so it keeps what is left to do itself.
func (c *conn) writeThreads(roots []*thread, uid bool) {
	stack := [][]*thread{roots} // siblings still to be written, by level
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(*top) == 0 {
			if stack = stack[:len(stack)-1]; len(stack) > 0 {
				c.enc.Byte(')')
			}
			continue
		}
		t := (*top)[0]
		*top = (*top)[1:]
		c.enc.Byte('(')
		for ; t.hit != nil; t = t.children[0] {
			c.enc.Num(uint64(t.hit.number(uid)))
			if len(t.children) > 0 {
				c.enc.SP()
			}
			if len(t.children) != 1 {
				break
			}
		}
		stack = append(stack, t.children)
	}
}
