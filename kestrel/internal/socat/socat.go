// SPDX-License-Identifier: Apache-2.0

// Package socat answers the one use of socat that Volant's guests need, fetching a secret from the host:
//
//	socat VSOCK-CONNECT:2:9000 STDOUT > file
//
// It works in images without a socat, and as typed: socat 1.7 reads from its standard output too and fails where the
// shell has opened that for writing only. Everything else is for the image's own socat.
package socat

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/vsock"
)

// Main runs `socat ARGUMENTS` and returns its exit code.
func Main(arguments []string, stdout, stderr io.Writer) int {
	cid, port, ours := parse(arguments)
	var err error
	if ours {
		err = fetch(cid, port, stdout)
	} else if err = program.ExecImagesOwn("socat", arguments); err != nil {
		err = fmt.Errorf("%w; kestrel answers `socat VSOCK-CONNECT:CID:PORT STDOUT` by itself, nothing else", err)
	}
	if err != nil {
		fmt.Fprintf(stderr, "socat: %v\n", err)
		return 1
	}
	return 0
}

// parse knows the form that only reads from a vsock port: `[-u] VSOCK-CONNECT:CID:PORT STDOUT`.
func parse(arguments []string) (cid, port uint32, ours bool) {
	if len(arguments) > 0 && arguments[0] == "-u" {
		arguments = arguments[1:]
	}
	if len(arguments) != 2 || !strings.EqualFold(arguments[1], "STDOUT") {
		return 0, 0, false
	}
	parts := strings.Split(arguments[0], ":")
	if len(parts) != 3 || !(strings.EqualFold(parts[0], "VSOCK-CONNECT") || strings.EqualFold(parts[0], "VSOCK")) {
		return 0, 0, false
	}
	numbers := [2]uint32{}
	for index, text := range parts[1:] {
		number, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return 0, 0, false
		}
		numbers[index] = uint32(number)
	}
	return numbers[0], numbers[1], true
}

func fetch(cid, port uint32, stdout io.Writer) error {
	connection, err := vsock.Dial(cid, port)
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%w: nothing answers there (is a secret attached? volar vms create --secret NAME)", err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	if _, err := io.Copy(stdout, connection); err != nil {
		return fmt.Errorf("cannot read from vsock:%d:%d: %w", cid, port, err)
	}
	return nil
}
