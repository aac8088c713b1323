// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// microsecondsPerTick: /proc counts processor time in USER_HZ, 100 on every architecture (proc_stat(5)).
const microsecondsPerTick = 10_000

// readStats reads the guest's counters from proc and sysfs, and the space of the file system at root.
func readStats(proc, links, root string) (contract.AgentStats, error) {
	var stats contract.AgentStats
	uptime, err := os.ReadFile(filepath.Join(proc, "uptime"))
	if err != nil {
		return stats, fmt.Errorf("cannot read the guest's counters: %w", err)
	}
	if fields := strings.Fields(string(uptime)); len(fields) > 0 {
		stats.UptimeSeconds, _ = strconv.ParseFloat(fields[0], 64)
	}
	if processor, err := os.ReadFile(filepath.Join(proc, "stat")); err == nil {
		stats.CPUMicroseconds = busyTicks(string(processor)) * microsecondsPerTick
	}
	if memory, err := os.ReadFile(filepath.Join(proc, "meminfo")); err == nil {
		table := kilobytes(string(memory))
		stats.MemoryTotalBytes = table["MemTotal"]
		stats.MemoryUsedBytes = table["MemTotal"] - table["MemAvailable"]
	}
	if status, err := os.ReadFile(filepath.Join(proc, "self/status")); err == nil {
		stats.AgentMemoryBytes = kilobytes(string(status))["VmRSS"]
	}
	var space unix.Statfs_t
	if unix.Statfs(root, &space) == nil {
		stats.DiskTotalBytes = int64(space.Blocks) * space.Bsize
		stats.DiskUsedBytes = int64(space.Blocks-space.Bfree) * space.Bsize
	}
	stats.NetworkReceivedBytes, stats.NetworkSentBytes = countTraffic(links)
	return stats, nil
}

// busyTicks sums the first line of /proc/stat without idle, iowait and what is counted twice (guest time).
func busyTicks(text string) int64 {
	line, _, _ := strings.Cut(text, "\n")
	var sum int64
	for column, field := range strings.Fields(line) {
		switch column {
		case 1, 2, 3, 6, 7, 8: // user nice system irq softirq steal
			value, _ := strconv.ParseInt(field, 10, 64)
			sum += value
		}
	}
	return sum
}

// kilobytes reads lines of the form "Name:  123 kB" as bytes.
func kilobytes(text string) map[string]int64 {
	table := make(map[string]int64)
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) == 2 && fields[1] == "kB" {
			value, _ := strconv.ParseInt(fields[0], 10, 64)
			table[name] = value * 1024
		}
	}
	return table
}

// countTraffic sums the counters of all interfaces but loopback.
func countTraffic(folder string) (received, sent int64) {
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		if entry.Name() != "lo" {
			received += readCounter(filepath.Join(folder, entry.Name(), "statistics/rx_bytes"))
			sent += readCounter(filepath.Join(folder, entry.Name(), "statistics/tx_bytes"))
		}
	}
	return received, sent
}

func readCounter(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	value, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return value
}
