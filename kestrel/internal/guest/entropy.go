// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// checkEntropy tells where the kernel's random numbers are not ready yet: every key and TLS handshake would wait.
func checkEntropy() error {
	var one [1]byte
	if _, err := unix.Getrandom(one[:], unix.GRND_NONBLOCK); err == unix.EAGAIN {
		return errors.New("the guest has no entropy yet: the machine needs a virtio-rng device")
	}
	return nil
}
