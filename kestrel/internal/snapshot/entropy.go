// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/random.h; on amd64 and arm64 alike.
const (
	ioctlAddEntropy = 0x40085203
	ioctlReseed     = 0x5207
)

// Reseed mixes the host's bytes into the kernel's random numbers and has every processor's generator start anew from
// them. Writing to /dev/urandom would mix without starting anew: two copies of one memory would go on alike for a while.
func Reseed(entropy []byte) error {
	device, err := openRandom()
	if err != nil {
		return fmt.Errorf("cannot renew the random numbers: %w", err)
	}
	defer func() { _ = device.Close() }()
	return reseed(device, entropy)
}

func openRandom() (*os.File, error) { return os.OpenFile("/dev/urandom", os.O_RDWR, 0) }

func reseed(device *os.File, entropy []byte) error {
	message := entropyMessage(entropy)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), ioctlAddEntropy, uintptr(unsafe.Pointer(&message[0])))
	runtime.KeepAlive(message)
	if errno != 0 {
		return fmt.Errorf("cannot renew the random numbers: %w", errno)
	}
	if err := unix.IoctlSetInt(int(device.Fd()), ioctlReseed, 0); err != nil {
		return fmt.Errorf("cannot renew the random numbers: %w", err)
	}
	return nil
}

// entropyMessage is struct rand_pool_info: how many bits to count, how many bytes follow, the bytes.
func entropyMessage(entropy []byte) []byte {
	message := binary.NativeEndian.AppendUint32(nil, uint32(len(entropy)*8))
	message = binary.NativeEndian.AppendUint32(message, uint32(len(entropy)))
	return append(message, entropy...)
}
