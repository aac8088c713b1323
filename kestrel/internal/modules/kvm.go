// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"os"
	"slices"
	"strings"
)

// kvmAlias is a line of modprobe.d: opening /dev/kvm asks for the module kvm, which serves nothing without the part for
// this processor. Where udev runs, that one is loaded at boot, by the processor's features.
func kvmAlias(cpuInfo string) string {
	flags := strings.Fields(cpuInfo)
	switch {
	case slices.Contains(flags, "svm"):
		return "alias char-major-10-232 kvm-amd"
	case slices.Contains(flags, "vmx"):
		return "alias char-major-10-232 kvm-intel"
	}
	return ""
}

func readCPUInfo() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	return string(text)
}
