// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"runtime/debug"
	"sync"
	"time"
)

// Late enough not to run between the commands of a script, soon enough to matter.
const trimDelay = 3 * time.Second

// trimmer gives the memory of finished transfers back to the guest, which may have little of it. The control channel
// stays open all the time, so what counts is that a channel has ended and none has begun or ended since.
type trimmer struct {
	mutex sync.Mutex
	timer *time.Timer
}

var memory trimmer

func (t *trimmer) begin() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.timer != nil {
		t.timer.Reset(trimDelay)
	}
}

func (t *trimmer) end() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.timer == nil {
		t.timer = time.AfterFunc(trimDelay, debug.FreeOSMemory)
	} else {
		t.timer.Reset(trimDelay)
	}
}
