// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"io"
	"time"

	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Attach joins a client to the workload's input and output until it has ended, with its status, or the client is gone.
func (s *Supervisor) Attach(stdin io.Reader, stdout, stderr io.Writer, gone <-chan struct{}) (reaper.Status, error) {
	if s.station == nil {
		return reaper.Status{}, errors.New("this VM was made without an input or a terminal for its workload")
	}
	return s.station.Attach(stdin, stdout, stderr, gone)
}

// Resize gives the workload's terminal another size.
func (s *Supervisor) Resize(columns, rows uint32) error {
	if s.station == nil {
		return nil
	}
	return s.station.Resize(columns, rows)
}

// WaitServed returns when nobody is joined to the workload any more, or after a while.
func (s *Supervisor) WaitServed(patience time.Duration) {
	if s.station != nil {
		s.station.WaitServed(patience)
	}
}
