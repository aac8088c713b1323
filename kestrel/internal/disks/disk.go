// SPDX-License-Identifier: Apache-2.0

// Package disks finds the disks that the host attached, by their serial numbers, and mounts what is on them.
package disks

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// patience is how long a disk may take to show up after its driver was loaded.
const patience = 5 * time.Second

// Disk is a block device, found by the serial number that the host gave it.
type Disk struct {
	device    string // below /dev
	sizeBytes uint64
}

// Find looks for the virtio-blk device with this serial number, and waits for it a while.
func Find(serial string) (Disk, error) { return find("/sys/block", serial, patience) }

func find(blockFolder, serial string, patience time.Duration) (Disk, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		devices, _ := os.ReadDir(blockFolder)
		var others []string
		for _, device := range devices {
			folder := filepath.Join(blockFolder, device.Name())
			text, err := os.ReadFile(filepath.Join(folder, "serial"))
			if err != nil {
				continue
			}
			found := strings.TrimSpace(string(text))
			if found == serial {
				return readDisk(folder)
			}
			others = append(others, fmt.Sprintf("%s %q", device.Name(), found))
		}
		if time.Now().After(deadline) {
			return Disk{}, fmt.Errorf("no disk has the serial number %q (%s)", serial, describeOthers(others))
		}
	}
}

func readDisk(folder string) (Disk, error) {
	found := Disk{device: filepath.Join("/dev", filepath.Base(folder))}
	text, err := os.ReadFile(filepath.Join(folder, "size"))
	if err != nil {
		return found, err
	}
	sectors, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	found.sizeBytes = sectors * 512 // sysfs counts in 512 bytes whatever the device does
	return found, err
}

func describeOthers(others []string) string {
	if len(others) == 0 {
		return "there is no disk with a serial number at all"
	}
	return "there are " + strings.Join(others, ", ")
}
