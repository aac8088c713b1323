// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	// tcpListen is TCP_LISTEN of the kernel's net/tcp_states.h, as /proc/net/tcp spells it.
	tcpListen = "0A"
	// sshPort is where the agent itself may listen: it says nothing about the workload.
	sshPort     = 22
	portsToName = 5
)

var socketTables = []string{"/proc/net/tcp", "/proc/net/tcp6"}

// describeRefusal says what is wrong with a port that refuses: that nothing listens, or that something does elsewhere.
func describeRefusal(port int) error {
	open := listListening(socketTables)
	if len(open) == 0 {
		return fmt.Errorf("nothing listens on port %d (connection refused)", port)
	}
	names := make([]string, 0, portsToName)
	for _, each := range open[:min(len(open), portsToName)] {
		names = append(names, strconv.Itoa(each))
	}
	verb := "port %s is open"
	if len(names) > 1 {
		verb = "ports %s are open"
	}
	return fmt.Errorf("nothing listens on port %d, but "+verb, port, strings.Join(names, ", "))
}

// listListening gives the TCP ports that somebody in this guest listens on, lowest first. The tables are proc(5)'s: after a
// line of headings, fields "sl local_address rem_address st …", where an address is hexadecimal HOST:PORT.
func listListening(tables []string) []int {
	var found []int
	for _, table := range tables {
		file, err := os.Open(table)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != tcpListen {
				continue
			}
			_, text, _ := strings.Cut(fields[1], ":")
			if port, err := strconv.ParseUint(text, 16, 16); err == nil && port != sshPort {
				found = append(found, int(port))
			}
		}
		_ = file.Close()
	}
	slices.Sort(found)
	return slices.Compact(found)
}
