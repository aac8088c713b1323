// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64) of fs/ext4/ext4.h: grow a mounted file system to that many blocks.
const ext4ResizeFS = 0x40086610

// growRoot makes the root file system as large as its disk, by the kernel's own online resize: no tool is needed.
func growRoot(found disk) error { return growMounted(found, "/") }

func growMounted(found disk, target string) error {
	device, err := os.Open(found.device)
	if err != nil {
		return fmt.Errorf("cannot grow the file system on %s: %w", found.device, err)
	}
	block, err := readSuperblock(device)
	_ = device.Close()
	if err != nil {
		return fmt.Errorf("cannot grow the file system on %s: %w", found.device, err)
	}
	blocks := block.wantedBlocks(found.sizeBytes)
	if blocks <= block.blockCount {
		return nil
	}
	folder, err := os.Open(target)
	if err != nil {
		return fmt.Errorf("cannot grow the file system on %s: %w", found.device, err)
	}
	defer func() { _ = folder.Close() }()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&blocks)))
	if errno != 0 {
		return fmt.Errorf("cannot grow the file system on %s from %d to %d blocks: %w",
			found.device, block.blockCount, blocks, errno)
	}
	return nil
}
