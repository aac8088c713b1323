// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestListeningPortsAreReadFromBothTables(t *testing.T) {
	four, six := filepath.Join(t.TempDir(), "tcp"), filepath.Join(t.TempDir(), "tcp6")
	heading := "  sl  local_address rem_address   st tx_queue rx_queue\n"
	write(t, four, heading+
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n"+
		"   1: 00000000:0016 00000000:0000 0A 00000000:00000000\n"+ // the agent's own
		"   2: 0100007F:C350 0100007F:1F90 01 00000000:00000000\n") // a connection, not a listener
	write(t, six, heading+
		"   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0\n"+
		"   1: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0\n"+
		"half a li")
	if ports := listListening([]string{four, six, "/nowhere"}); !slices.Equal(ports, []int{80, 8080}) {
		t.Fatalf("%v", ports)
	}
}

func TestARefusalNamesWhatIsOpenInstead(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if reason := describeRefusal(1).Error(); !strings.HasPrefix(reason, "nothing listens on port 1, but port") {
		t.Fatal(reason)
	}
	socketTables = []string{"/nowhere"}
	defer func() { socketTables = []string{"/proc/net/tcp", "/proc/net/tcp6"} }()
	if reason := describeRefusal(1).Error(); reason != "nothing listens on port 1 (connection refused)" {
		t.Fatal(reason)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
