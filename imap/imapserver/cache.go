package imapserver

import (
	"sync"

	"github.com/mailblocks/mailblocks/imap"
)

// cacheKey names what was made of a message. A message's octets never change, and neither
// does what they parse to.
type cacheKey struct {
	box  uint64 // box.id
	uid  imap.UID
	kind itemKind
	utf8 bool
	// label tells sections apart.
	label string
}

// cache keeps rendered ENVELOPEs and BODYSTRUCTUREs of all mailboxes, within a number of
// octets. It has two generations: what is asked for moves to the younger one, and when that
// has half the octets, it becomes the older one, and the older one is forgotten.
type cache struct {
	mu         sync.Mutex
	limit      int64
	size       int64 // of young
	young, old map[cacheKey][]byte
}

// cacheOverhead is about what an entry costs besides its octets.
const cacheOverhead = 100

// get returns what put was given, or nil. Nobody may change it.
func (c *cache) get(k cacheKey) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.young[k]; b != nil {
		return b
	}
	b := c.old[k]
	if b != nil {
		c.add(k, b)
	}
	return b
}

func (c *cache) put(k cacheKey, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, b)
}

func (c *cache) add(k cacheKey, b []byte) {
	n := int64(len(b)) + cacheOverhead
	if n > c.limit/8 {
		return
	}
	if c.size+n > c.limit/2 {
		c.old, c.young, c.size = c.young, nil, 0
	}
	if c.young == nil {
		c.young = make(map[cacheKey][]byte)
	}
	if _, there := c.young[k]; !there {
		c.size += n
	}
	c.young[k] = b
}
