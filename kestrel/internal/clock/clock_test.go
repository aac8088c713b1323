// SPDX-License-Identifier: Apache-2.0

package clock

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOnlyTheHypervisorsClockIsFollowed(t *testing.T) {
	folder := t.TempDir()
	for name, label := range map[string]string{"ptp0": "virtio-net clock", "ptp1": "KVM virtual PTP"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name, "clock_name"), []byte(label+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := findPTP(folder, "/dev"); got != "/dev/ptp1" {
		t.Errorf("got %q", got)
	}
	if got := findPTP(t.TempDir(), "/dev"); got != "" {
		t.Errorf("got %q where there is none", got)
	}
}

func TestNoWordOfTheHostLeavesTheClock(t *testing.T) {
	if err := SetAtBoot(0); err != nil {
		t.Error(err)
	}
}

func TestSteppingBeginsWhereSlewingEnds(t *testing.T) {
	for difference, stepped := range map[time.Duration]bool{
		0: false, stepThreshold - 1: false, stepThreshold: false, stepThreshold + 1: true, 24 * time.Hour: true,
		1 - stepThreshold: false, -stepThreshold: false, -stepThreshold - 1: true, -24 * time.Hour: true,
		1<<63 - 1: true, -1 << 63: true,
	} {
		if isStepped(difference) != stepped {
			t.Errorf("%v: stepped must be %v", difference, stepped)
		}
	}
}

// recordChanges replaces the kernel by one that notes what it was asked.
func recordChanges(t *testing.T, answer error) (steps *[]time.Time, slews *[]time.Duration) {
	t.Helper()
	steps, slews = new([]time.Time), new([]time.Duration)
	original := kernel
	t.Cleanup(func() { kernel = original })
	kernel.settime = func(clock int32, value *unix.Timespec) error {
		if clock != unix.CLOCK_REALTIME {
			t.Errorf("clock %d is set", clock)
		}
		*steps = append(*steps, time.Unix(value.Unix()))
		return answer
	}
	kernel.adjtime = func(adjustment *unix.Timex) (int, error) {
		if adjustment.Modes != unix.ADJ_OFFSET_SINGLESHOT {
			t.Errorf("the mode is %#x", adjustment.Modes)
		}
		*slews = append(*slews, time.Duration(adjustment.Offset)*time.Microsecond)
		return 0, answer
	}
	return steps, slews
}

func TestAClockThatIsFarOffIsStepped(t *testing.T) {
	for _, difference := range []time.Duration{time.Hour, -time.Hour} {
		steps, slews := recordChanges(t, nil)
		target := time.Now().Add(difference)
		if err := Set(target); err != nil {
			t.Fatal(err)
		}
		if len(*steps) != 1 || !(*steps)[0].Equal(target) || len(*slews) != 0 {
			t.Errorf("%v: steps %v, slews %v", difference, *steps, *slews)
		}
	}
}

func TestAClockThatIsNearlyRightIsSlewedInBothDirections(t *testing.T) {
	for _, difference := range []time.Duration{stepThreshold / 2, -stepThreshold / 2} {
		for try := 0; ; try++ {
			steps, slews := recordChanges(t, nil)
			before := time.Now()
			if err := Set(before.Add(difference)); err != nil {
				t.Fatal(err)
			}
			took := time.Since(before)
			if difference-took < -stepThreshold && try < 100 {
				continue // this thread has slept for so long that stepping was right
			}
			if len(*slews) != 1 || len(*steps) != 0 {
				t.Fatalf("%v: steps %v, slews %v", difference, *steps, *slews)
			}
			if got := (*slews)[0]; got > difference || got < difference-took-time.Microsecond {
				t.Errorf("%v is slewed by %v", difference, got)
			}
			break
		}
	}
}

func TestAtBootTheClockIsSteppedOrLeft(t *testing.T) {
	var uptime unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &uptime); err != nil {
		t.Fatal(err)
	}
	started := time.Now().UnixNano() - uptime.Nano()
	steps, slews := recordChanges(t, nil)
	for _, host := range []int64{0, -1, started} {
		if err := SetAtBoot(host); err != nil {
			t.Fatal(err)
		}
	}
	if len(*steps) != 0 {
		t.Errorf("a clock that is right is stepped to %v", *steps)
	}
	if err := SetAtBoot(started + int64(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if len(*steps) != 1 || len(*slews) != 0 {
		t.Errorf("a clock that is an hour behind: steps %v, slews %v", *steps, *slews)
	}
}

func TestAKernelThatRefusesIsSaid(t *testing.T) {
	recordChanges(t, unix.EPERM)
	for _, difference := range []time.Duration{time.Hour, 0} {
		err := Set(time.Now().Add(difference))
		if err == nil || !strings.HasPrefix(err.Error(), "cannot s") {
			t.Errorf("%v: error is %v", difference, err)
		}
	}
}
