// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"os"
	"slices"
	"strings"
)

// kvmDevice is /dev/kvm, which x86 kernels do not name in modules.devname.
const kvmDevice = "kvm"

// kvmModule is the part of KVM for this processor: its features name it, as udev has it at boot elsewhere. The module
// kvm alone, for which the kernel asks when the device is opened, serves nothing.
func kvmModule(cpuInfo string) string {
	flags := strings.Fields(cpuInfo)
	switch {
	case slices.Contains(flags, "svm"):
		return "kvm_amd"
	case slices.Contains(flags, "vmx"):
		return "kvm_intel"
	}
	return ""
}

// kvmAlias is a line of modprobe.d: what opening the device loads.
func kvmAlias(cpuInfo string) string {
	if name := kvmModule(cpuInfo); name != "" {
		return "alias char-major-10-232 " + name
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
