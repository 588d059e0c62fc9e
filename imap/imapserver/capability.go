package imapserver

import "github.com/mailblocks/mailblocks/imap"

// storeCapabilities are those of the account's Store, and of what the embedder set up.
func (c *conn) storeCapabilities() (caps []string) {
	store := c.account.store
	if q, ok := imap.UpgradeStore[imap.Quotas](store); ok {
		caps = append(caps, "QUOTA")
		for _, r := range q.QuotaResources() {
			caps = append(caps, "QUOTA=RES-"+string(r))
		}
		if c.quotaAdmin() {
			caps = append(caps, "QUOTASET")
		}
	}
	if _, ok := imap.UpgradeStore[imap.Annotations](store); ok {
		caps = append(caps, "METADATA", "LIST-METADATA", "FILTERS", "URLAUTH", "URLAUTH=BINARY")
	}
	if _, ok := imap.UpgradeStore[imap.Rights](store); ok {
		caps = append(caps, "ACL", "RIGHTS=kxte", "LIST-MYRIGHTS")
	}
	if c.server.JMAPURL != "" {
		caps = append(caps, "JMAPACCESS")
	}
	return caps
}
