// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	openFiles     = 65536
	mostOpenFiles = 1 << 20
)

// raiseLimits sets what every process inherits: many open files, as people are used to from containers.
func raiseLimits() error {
	var present unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &present); err != nil {
		return fmt.Errorf("cannot raise the limit of open files: %w", err)
	}
	limit := unix.Rlimit{Cur: openFiles, Max: max(present.Max, mostOpenFiles)}
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if errors.Is(err, unix.EPERM) { // not the machine's own root: what there is must do
		limit = unix.Rlimit{Cur: min(openFiles, present.Max), Max: present.Max}
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		return fmt.Errorf("cannot raise the limit of open files: %w", err)
	}
	return nil
}
