// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// growPartition has nothing left to do: the root disk has no partitions and the boot has grown its file system. What
// else is asked for is told.
func (r *Runner) growPartition(_ context.Context, config fields) error {
	var problems []error
	if settings, ok := asFields(config["growpart"]); ok {
		mode := settings.text("mode")
		if mode == "off" || !asBool(settings.get("mode"), true) {
			problems = append(problems, errors.New("mode off comes too late: the root file system has been grown at boot"))
		}
		devices, err := asTexts(settings.get("devices"))
		if err != nil {
			problems = append(problems, fmt.Errorf("devices: %w", err))
		}
		devices = slices.DeleteFunc(devices, func(device string) bool { return device == "/" })
		if len(devices) > 0 {
			problems = append(problems, fmt.Errorf("only the root file system is grown, not %v", devices))
		}
	}
	if value, ok := config["resize_rootfs"]; ok && !asBool(value, true) {
		problems = append(problems, errors.New("resize_rootfs false comes too late: the root file system has been grown at boot"))
	}
	return errors.Join(problems...)
}
