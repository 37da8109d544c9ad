package peers

// Files returns the configuration that makes the case what it is, by path
// below its root: for those who judge a text and start nothing.
func (c Case) Files() map[string]string { return c.setup().files }
