// SPDX-License-Identifier: Apache-2.0

// Package clock keeps the guest's wall clock right: at boot from the host's word, later by a PTP device of the
// hypervisor where there is one, else by the host's clock.set.
package clock

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Differences above this are stepped, smaller ones slewed so that time never runs backwards for a running workload.
const stepThreshold = 250 * time.Millisecond

// disciplineInterval is how often a PTP device is read.
const disciplineInterval = time.Minute

// kernel is what changes the clock; only tests replace it.
var kernel = struct {
	settime func(clock int32, value *unix.Timespec) error
	adjtime func(adjustment *unix.Timex) (state int, err error)
}{unix.ClockSettime, unix.Adjtimex}

// SetAtBoot takes the host's clock as it was when the VM was started, plus the time this kernel has been up. The host
// corrects the rest (at most the firmware's time) when it connects.
func SetAtBoot(hostUnixNanoseconds int64) error {
	if hostUnixNanoseconds <= 0 {
		return nil
	}
	var uptime unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &uptime); err != nil {
		return fmt.Errorf("cannot read the uptime: %w", err)
	}
	target := time.Unix(0, hostUnixNanoseconds+uptime.Nano())
	if !isStepped(time.Until(target)) {
		return nil
	}
	return step(target)
}

// Set brings the clock to the given time, as clock.set asks.
func Set(target time.Time) error {
	difference := time.Until(target)
	if isStepped(difference) {
		return step(target)
	}
	return slew(difference)
}

func isStepped(difference time.Duration) bool { return difference.Abs() > stepThreshold }

func step(target time.Time) error {
	value := unix.NsecToTimespec(target.UnixNano())
	if err := kernel.settime(unix.CLOCK_REALTIME, &value); err != nil {
		return fmt.Errorf("cannot set the clock: %w", err)
	}
	return nil
}

func slew(difference time.Duration) error {
	adjustment := unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: difference.Microseconds()}
	if _, err := kernel.adjtime(&adjustment); err != nil {
		return fmt.Errorf("cannot slew the clock: %w", err)
	}
	return nil
}

// FollowPTP reads the hypervisor's PTP clock now and then for ever; it returns at once where the guest has none.
func FollowPTP(warn func(string)) {
	device := findPTP("/sys/class/ptp", "/dev")
	if device == "" {
		return
	}
	file, err := os.Open(device)
	if err != nil {
		warn(fmt.Sprintf("cannot use the host's clock: %v", err))
		return
	}
	defer func() { _ = file.Close() }()
	// A clock id made from a file descriptor: clock_gettime(2), "Dynamic clocks".
	id := int32((^int(file.Fd()))<<3 | 3)
	for {
		var now unix.Timespec
		if err := unix.ClockGettime(id, &now); err != nil {
			warn(fmt.Sprintf("cannot read the host's clock from %s: %v", device, err))
			return
		}
		if err := Set(time.Unix(0, now.Nano())); err != nil {
			warn(err.Error())
			return
		}
		time.Sleep(disciplineInterval)
	}
}

// findPTP gives the device of a hypervisor's clock; a network card's PTP clock tells another time.
func findPTP(class, devices string) string {
	names, _ := filepath.Glob(filepath.Join(class, "*", "clock_name"))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		switch strings.TrimSpace(string(text)) {
		case "KVM virtual PTP", "hyperv":
			return filepath.Join(devices, filepath.Base(filepath.Dir(name)))
		}
	}
	return ""
}
