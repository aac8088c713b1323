// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	clockSources = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
	hostClock    = "ptp_kvm"
)

// LoadHostClock makes the host's clock a device where this guest runs on KVM, which distribution kernels leave to
// whoever wants it. A host that does not tell its time, and a kernel without the driver, are no errors.
func LoadHostClock() error {
	if !runsOnKVM(clockSources) {
		return nil
	}
	folder, err := Mount()
	if errors.Is(err, errNoDisk) {
		return nil
	}
	if err != nil {
		return err
	}
	err = newLoader(folder).load(hostClock, nil)
	if errors.Is(err, errNotFound) || errors.Is(err, errNoDevice) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

func runsOnKVM(sources string) bool {
	said, err := os.ReadFile(sources)
	return err == nil && strings.Contains(string(said), "kvm-clock")
}
