// SPDX-License-Identifier: Apache-2.0

package guest

import "sync"

// event happens once: to whoever waits for it, and to whoever comes later.
type event struct {
	happened chan struct{}
	once     *sync.Once
}

func newEvent() event { return event{make(chan struct{}), &sync.Once{}} }

func (e event) tell() { e.once.Do(func() { close(e.happened) }) }
