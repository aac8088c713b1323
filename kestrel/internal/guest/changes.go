// SPDX-License-Identifier: Apache-2.0

package guest

import "sync"

// changes tells many watchers that something changed; what comes together is told once.
type changes struct {
	mutex    sync.Mutex
	watchers map[chan struct{}]struct{}
}

func newChanges() *changes { return &changes{watchers: make(map[chan struct{}]struct{})} }

func (c *changes) tell() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for watcher := range c.watchers {
		select {
		case watcher <- struct{}{}:
		default:
		}
	}
}

func (c *changes) subscribe() (changed <-chan struct{}, cancel func()) {
	watcher := make(chan struct{}, 1)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.watchers[watcher] = struct{}{}
	return watcher, func() {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		delete(c.watchers, watcher)
	}
}
