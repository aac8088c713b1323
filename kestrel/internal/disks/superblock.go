// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// superblock is what the agent wants to know of an ext4 file system (Documentation/filesystems/ext4/super.rst).
type superblock struct {
	blockSize  uint64
	blockCount uint64
	hasErrors  bool
}

const (
	superblockOffset = 1024
	superblockSize   = 1024
	extMagic         = 0xEF53
	stateErrors      = 0x2
	incompat64Bit    = 0x80
)

// readSuperblock reads the superblock of an ext2, ext3 or ext4 file system.
func readSuperblock(disk io.ReaderAt) (superblock, error) {
	raw := make([]byte, superblockSize)
	if _, err := disk.ReadAt(raw, superblockOffset); err != nil {
		return superblock{}, fmt.Errorf("cannot read its superblock: %w", err)
	}
	if binary.LittleEndian.Uint16(raw[0x38:]) != extMagic {
		return superblock{}, errors.New("it holds no ext4 file system")
	}
	count := uint64(binary.LittleEndian.Uint32(raw[0x4:]))
	if binary.LittleEndian.Uint32(raw[0x60:])&incompat64Bit != 0 {
		count |= uint64(binary.LittleEndian.Uint32(raw[0x150:])) << 32
	}
	return superblock{
		blockSize:  1024 << binary.LittleEndian.Uint32(raw[0x18:]),
		blockCount: count,
		hasErrors:  binary.LittleEndian.Uint16(raw[0x3A:])&stateErrors != 0,
	}, nil
}

func (d Disk) superblock() (superblock, error) {
	device, err := os.Open(d.device)
	if err != nil {
		return superblock{}, err
	}
	defer func() { _ = device.Close() }()
	return readSuperblock(device)
}
