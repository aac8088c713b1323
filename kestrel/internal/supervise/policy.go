// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"time"

	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

const (
	// upFor is how long a process without a check must be up to count as ready.
	upFor = time.Second
	// steadyFor is how long it must be up for the back-off to begin anew.
	steadyFor = 10 * time.Second
	// longestBackoff ends the doubling.
	longestBackoff = 30 * time.Second
	// triesBeforeUnhealthy is how often a process that has never been ready may end before the VM counts as unhealthy:
	// a database that is a moment late must not fail a deployment.
	triesBeforeUnhealthy = 3
)

// wantsRestart is the restart policy.
func (sp spec) wantsRestart(status reaper.Status) bool {
	switch {
	case sp.runOnce && status.Success():
		return false
	case sp.restart == config.RestartAlways:
		return true
	default:
		return sp.restart == config.RestartOnFailure && !status.Success()
	}
}

// nextBackoff doubles with every failure in a row. A configured pause above the usual longest stays as it is.
func nextBackoff(first time.Duration, failuresInRow int) time.Duration {
	longest := max(first, longestBackoff)
	pause := first
	for range failuresInRow {
		if pause *= 2; pause >= longest {
			return longest
		}
	}
	return pause
}
