package arc

// SortTags makes the fields as the published suite wants to compare them.
func (o *SealOptions) SortTags() { o.sorted = true }
