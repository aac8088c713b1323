// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"sync"
)

// tell prints one line on the console, where the host keeps it: what people see of a boot before any log exists.
func tell(format string, arguments ...any) {
	_, _ = fmt.Fprintf(os.Stderr, "kestrel: "+format+"\n", arguments...)
}

// Warnings collects what went wrong without stopping the boot; the host shows them in the VM's state.
type Warnings struct {
	mutex    sync.Mutex
	texts    []string
	onChange func()
}

// Add notes a warning and prints it.
func (w *Warnings) Add(text string) {
	w.mutex.Lock()
	w.texts = append(w.texts, text)
	onChange := w.onChange
	w.mutex.Unlock()
	tell("warning: %s", text)
	if onChange != nil {
		onChange()
	}
}

// AddError notes an error where there is one.
func (w *Warnings) AddError(err error) {
	if err != nil {
		w.Add(err.Error())
	}
}

// List gives what was noted so far.
func (w *Warnings) List() []string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return append([]string(nil), w.texts...)
}

// OnChange names the function to call after each further warning.
func (w *Warnings) OnChange(call func()) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.onChange = call
}
