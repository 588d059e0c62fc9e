package imapserver

import "context"

// cmdGetJMAPAccess tells where the same mail is to be had by JMAP (RFC 9698).
func (c *conn) cmdGetJMAPAccess(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	if c.server.JMAPURL == "" {
		return no("CANNOT", "there is no JMAP here")
	}
	c.enc.Raw("* JMAPACCESS ").String(c.server.JMAPURL).CRLF()
	return ok("there it is")
}
