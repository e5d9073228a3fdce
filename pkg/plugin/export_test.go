package plugin

// Waiting returns how many callers wait for answers.
func (d *Datasource) Waiting() (n int) {
	d.shared.mu.Lock()
	defer d.shared.mu.Unlock()
	for _, c := range d.shared.calls {
		n += c.waiting
	}
	return n
}

var IsSource = isSource
