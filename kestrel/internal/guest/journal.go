// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"sync"

	"github.com/volantvm/volant/kestrel/internal/logs"
)

// Journal takes what the agent says: it waits for the logs to open and goes straight to the console where they never
// do. Warnings are kept besides, for the host to show in the VM's state.
type Journal struct {
	mutex    sync.Mutex
	store    *logs.Store
	waiting  []string
	warnings []string
	onChange func()
}

// Say notes a line.
func (j *Journal) Say(format string, arguments ...any) {
	line := fmt.Sprintf(format, arguments...)
	j.mutex.Lock()
	store := j.store
	if store == nil {
		j.waiting = append(j.waiting, line)
	}
	j.mutex.Unlock()
	if store != nil {
		store.Say("%s", line)
	}
}

// Warn notes what went wrong without stopping the boot.
func (j *Journal) Warn(text string) {
	j.mutex.Lock()
	j.warnings = append(j.warnings, text)
	onChange := j.onChange
	j.mutex.Unlock()
	j.Say("warning: %s", text)
	if onChange != nil {
		onChange()
	}
}

func (j *Journal) WarnError(err error) {
	if err != nil {
		j.Warn(err.Error())
	}
}

func (j *Journal) listWarnings() []string {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return append([]string(nil), j.warnings...)
}

// attach names the logs and the function to call after each further warning.
func (j *Journal) attach(store *logs.Store, onChange func()) {
	j.mutex.Lock()
	waiting := j.waiting
	j.store, j.waiting, j.onChange = store, nil, onChange
	j.mutex.Unlock()
	for _, line := range waiting {
		store.Say("%s", line)
	}
}

// Spill prints what waits for logs that will not open any more.
func (j *Journal) Spill() {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	for _, line := range j.waiting {
		_, _ = fmt.Fprintf(os.Stderr, "kestrel: %s\n", line)
	}
	j.waiting = nil
}
