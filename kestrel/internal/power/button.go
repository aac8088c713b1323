// SPDX-License-Identifier: Apache-2.0

package power

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
)

// Of linux/input-event-codes.h, and the size of struct input_event where a long has 64 bits.
const (
	eventKey   = 1
	keyPower   = 116
	eventBytes = 24
)

// FollowButtons has the machine's power button power off in order. Where no volantd runs a guest it is how whoever does
// asks it to stop. False: the machine has none.
func (r Requests) FollowButtons() bool {
	devices, _ := filepath.Glob("/dev/input/event*")
	found := false
	for _, path := range devices {
		device, err := os.Open(path)
		if err != nil {
			continue
		}
		found = true
		go func() {
			defer Guard()
			defer func() { _ = device.Close() }()
			followButton(device, func() { r.Ask(Request{Action: PowerOff, Origin: "the power button"}) })
		}()
	}
	return found
}

// followButton returns when the device is gone.
func followButton(device io.Reader, press func()) {
	event := make([]byte, eventBytes)
	for {
		if _, err := io.ReadFull(device, event); err != nil {
			return
		}
		kind, code := binary.NativeEndian.Uint16(event[16:]), binary.NativeEndian.Uint16(event[18:])
		if isDown := binary.NativeEndian.Uint32(event[20:]) == 1; kind == eventKey && code == keyPower && isDown {
			press()
		}
	}
}
