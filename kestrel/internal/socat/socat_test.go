// SPDX-License-Identifier: Apache-2.0

package socat

import (
	"strings"
	"testing"
)

func TestOnlyTheFormThatReadsFromVsockIsOurs(t *testing.T) {
	for line, ours := range map[string]bool{
		"VSOCK-CONNECT:2:9000 STDOUT":            true,
		"-u VSOCK-CONNECT:2:9000 STDOUT":         true,
		"vsock-connect:2:9000 stdout":            true,
		"VSOCK:2:9000 STDOUT":                    true,
		"VSOCK-CONNECT:2:9000 -":                 false, // reads its standard input, too
		"VSOCK-CONNECT:2:9000,retry=3 STDOUT":    false,
		"-d VSOCK-CONNECT:2:9000 STDOUT":         false,
		"STDOUT VSOCK-CONNECT:2:9000":            false,
		"VSOCK-CONNECT:2:4294967296 STDOUT":      false,
		"VSOCK-CONNECT:2:-1 STDOUT":              false,
		"TCP:localhost:80 STDOUT":                false,
		"":                                       false,
		"VSOCK-CONNECT:2:9000 STDOUT OPEN:/file": false,
	} {
		cid, port, is := parse(strings.Fields(line))
		if is != ours {
			t.Errorf("%q: %v", line, is)
		}
		if ours && (cid != 2 || port != 9000) {
			t.Errorf("%q: %d:%d", line, cid, port)
		}
	}
}
