// SPDX-License-Identifier: Apache-2.0

package power

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func makeEvent(kind, code uint16, value uint32) []byte {
	event := make([]byte, eventBytes)
	binary.NativeEndian.PutUint16(event[16:], kind)
	binary.NativeEndian.PutUint16(event[18:], code)
	binary.NativeEndian.PutUint32(event[20:], value)
	return event
}

func TestOnlyThePowerKeyAndOnlyWhenItGoesDownCounts(t *testing.T) {
	var events []byte
	for _, event := range [][]byte{
		makeEvent(eventKey, 30, 1), makeEvent(0, 0, 0), makeEvent(4, keyPower, 1), makeEvent(eventKey, keyPower, 1),
		makeEvent(0, 0, 0), makeEvent(eventKey, keyPower, 0), makeEvent(eventKey, keyPower, 2), {1, 2, 3},
	} {
		events = append(events, event...)
	}
	pressed := 0
	followButton(bytes.NewReader(events), func() { pressed++ })
	if pressed != 1 {
		t.Errorf("pressed %d times", pressed)
	}
}
