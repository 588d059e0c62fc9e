package imapserver

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mailblocks/mailblocks/imap"
)

func TestCacheStaysWithinItsLimit(t *testing.T) {
	c := &cache{limit: 100 * (cacheOverhead + 10)}
	key := func(i int) cacheKey { return cacheKey{box: 1, uid: imap.UID(i)} }
	for i := range 1000 {
		c.put(key(i), make([]byte, 10))
		c.get(key(0)) // in use all the time
		assert.LessOrEqual(t, len(c.young)+len(c.old), 100)
	}
	assert.NotNil(t, c.get(key(0)), "what is in use stays")
	assert.NotNil(t, c.get(key(999)))
	assert.Nil(t, c.get(key(500)))
	c.put(key(2000), make([]byte, c.limit))
	assert.Nil(t, c.get(key(2000)), "nothing may push out all the rest")
	assert.Nil(t, c.get(cacheKey{box: 2, uid: 999}))
}
