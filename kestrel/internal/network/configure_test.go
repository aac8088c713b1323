// SPDX-License-Identifier: Apache-2.0

package network

import (
	"strings"
	"testing"
	"time"
)

func splitLines(text string) (lines [][]string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

func TestAnInterfaceIsFoundByItsAddress(t *testing.T) {
	folder := t.TempDir()
	write(t, folder+"/lo/address", "00:00:00:00:00:00\n")
	write(t, folder+"/lo/ifindex", "1\n")
	write(t, folder+"/eth3/address", "52:54:00:12:34:ab\n")
	write(t, folder+"/eth3/ifindex", "4\n")
	found, err := waitForLink(folder, "52:54:00:12:34:AB", 0)
	if err != nil || found != (link{"eth3", 4}) {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := waitForLink(folder, "52:54:00:12:34:56", 0); err == nil || !strings.Contains(err.Error(), "only eth3, lo") {
		t.Errorf("error is %v", err)
	}
}

func TestAnInterfaceThatComesLateIsWaitedFor(t *testing.T) {
	folder := t.TempDir()
	go func() {
		time.Sleep(10 * time.Millisecond)
		write(t, folder+"/eth0/ifindex", "2\n")
		write(t, folder+"/eth0/address", "52:54:00:12:34:56\n")
	}()
	if found, err := waitForLink(folder, "52:54:00:12:34:56", time.Minute); err != nil || found.index != 2 {
		t.Errorf("found %v, %v", found, err)
	}
}
