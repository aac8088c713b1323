// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"encoding/base64"
	"fmt"

	"github.com/tidwall/gjson"
)

// minEntropyBytes is what makes one copy of a guest differ from all others.
const minEntropyBytes = 32

// Become is what a guest that woke from memory is told: who it is now, the host's randomness, and which hardware
// addresses its cards were given by the machine, in the order of the settings' interfaces (contract/settings_line.py).
// Without settings it is who it was, and is told the time.
type Become struct {
	Settings            *GuestConfig
	UnixTimeNanoseconds int64
	Entropy             []byte
	HardwareAddresses   []string
}

// ParseBecome reads it.
func ParseBecome(data []byte) (*Become, error) {
	if !gjson.ValidBytes(data) {
		return nil, fmt.Errorf("the settings are not valid JSON: %w", explainJSON(data))
	}
	fields := gjson.GetManyBytes(data, "guest_config", "entropy_base64", "hardware_addresses", "unix_time_nanoseconds")
	become := &Become{UnixTimeNanoseconds: fields[3].Int()}
	if become.UnixTimeNanoseconds <= 0 {
		var err error
		if become.Settings, err = readGuestConfig(fields[0]); err != nil {
			return nil, fmt.Errorf("cannot use the guest_config of the settings: %w", err)
		}
	}
	entropy, err := base64.StdEncoding.DecodeString(fields[1].Str)
	if err != nil || len(entropy) < minEntropyBytes {
		return nil, fmt.Errorf("the settings bring less than %d random bytes", minEntropyBytes)
	}
	become.Entropy = entropy
	for _, address := range fields[2].Array() {
		become.HardwareAddresses = append(become.HardwareAddresses, address.Str)
	}
	return become, nil
}
