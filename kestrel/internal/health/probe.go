// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/program"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// A probe asks once; nil is healthy. Its error is what people read as the reason.
type probe func(ctx context.Context) error

// loopback is where a workload is asked. One that listens on IPv6 alone answers on the second.
var loopback = []string{"127.0.0.1", "::1"}

// refused is a port that nobody listens on. Who else listens is looked up when somebody wants to read it.
type refused struct{ port int }

func (r refused) Error() string { return describeRefusal(r.port).Error() }

func dial(ctx context.Context, port int) (net.Conn, error) {
	if connection, err := connectAtOnce(port); connection != nil || err == unix.ECONNREFUSED {
		if connection != nil {
			return connection, nil
		}
		return nil, refused{port}
	}
	var dialer net.Dialer
	var first error
	for _, host := range loopback {
		connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			return connection, nil
		}
		if first == nil {
			first = err
		}
	}
	switch {
	case errors.Is(first, syscall.ECONNREFUSED):
		return nil, refused{port}
	case errors.Is(first, context.DeadlineExceeded), errors.Is(first, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("no connection to port %d within the timeout", port)
	}
	return nil, fmt.Errorf("no connection to port %d: %w", port, first)
}

func probeTCP(port int) probe {
	return func(ctx context.Context) error {
		connection, err := dial(ctx, port)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}

// probeHTTP speaks just enough HTTP/1.1 (RFC 9112) to see a status line: net/http would be a fifth of the agent.
func probeHTTP(port int, path string) probe {
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nUser-Agent: kestrel\r\nAccept: */*\r\nConnection: close\r\n\r\n", path, port)
	return func(ctx context.Context) error {
		connection, err := dial(ctx, port)
		if err != nil {
			return err
		}
		defer func() { _ = connection.Close() }()
		if deadline, limited := ctx.Deadline(); limited {
			_ = connection.SetDeadline(deadline)
		}
		release := context.AfterFunc(ctx, func() { _ = connection.SetDeadline(time.Unix(1, 0)) })
		defer release()
		if _, err := connection.Write(request); err != nil {
			return fmt.Errorf("GET %s on port %d: %w", path, port, describe(err))
		}
		code, err := readStatus(connection)
		if err != nil {
			return fmt.Errorf("GET %s on port %d: %w", path, port, describe(err))
		}
		if code < 200 || code > 399 {
			return fmt.Errorf("GET %s on port %d answered %d", path, port, code)
		}
		return nil
	}
}

func describe(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer within the timeout")
	case errors.Is(err, io.EOF):
		return errors.New("the connection was closed without an answer")
	}
	return err
}

// readStatus returns the code of the first final response and takes in a little of what follows, so that the server
// does not see its answer cut off.
func readStatus(connection io.Reader) (int, error) {
	buffer := make([]byte, 4096)
	filled := 0
	for {
		code, length, err := parseStatus(buffer[:filled])
		if err != nil {
			return 0, err
		}
		if code >= 200 {
			_, _ = io.CopyN(io.Discard, connection, 64<<10)
			return code, nil
		}
		if code > 0 { // 100 Continue, 103 Early Hints
			filled = copy(buffer, buffer[length:filled])
			continue
		}
		if filled == len(buffer) {
			return 0, errors.New("the answer is not HTTP")
		}
		count, err := connection.Read(buffer[filled:])
		filled += count
		if count == 0 && err != nil {
			return 0, err
		}
	}
}

// parseStatus returns a code of 0 while there is not enough to see. For an interim response it wants all its headers,
// whose length it returns.
func parseStatus(data []byte) (code, length int, err error) {
	const prefix = "HTTP/1."
	if !bytes.HasPrefix(data, []byte(prefix)[:min(len(prefix), len(data))]) {
		return 0, 0, errors.New("the answer is not HTTP")
	}
	line, _, found := bytes.Cut(data, []byte("\n"))
	if !found {
		return 0, 0, nil
	}
	fields := strings.Fields(string(line))
	if len(fields) < 2 {
		return 0, 0, errors.New("the answer is not HTTP")
	}
	code, err = strconv.Atoi(fields[1])
	if err != nil || code < 100 || code > 599 {
		return 0, 0, errors.New("the answer is not HTTP")
	}
	if code >= 200 {
		return code, 0, nil
	}
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, 0, nil
	}
	return code, end + 4, nil
}

// outputBytes is how much of a check's output is kept, for the pattern and for the reason.
const outputBytes = 16 << 10

func probeExec(children *reaper.Reaper, prepare func() (reaper.Command, error), pattern *regexp.Regexp) probe {
	return func(ctx context.Context) error {
		command, err := prepare()
		if err != nil {
			return err
		}
		read, write, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("cannot run the check: %w", err)
		}
		defer func() { _ = read.Close() }()
		command.Files = []*os.File{nil, write, write}
		command.Release = []*os.File{write}
		var output bytes.Buffer
		var copying sync.WaitGroup
		copying.Go(func() {
			_, _ = io.CopyN(&output, read, outputBytes)
			_, _ = io.Copy(io.Discard, read)
		})
		// What a check leaves running would be there once more after every interval.
		status, err := children.RunAlone(ctx, command)
		// A process that left the check's group may hold the pipe: do not wait for it.
		_ = read.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		copying.Wait()
		var failure *os.PathError
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return errors.New("the check did not end within its timeout" + lastLine(output.Bytes()))
		case errors.As(err, &failure):
			return program.Explain(command.Path, err)
		case err != nil:
			return err
		case !status.Success():
			return fmt.Errorf("the check %s%s", status, lastLine(output.Bytes()))
		case pattern != nil && !pattern.Match(output.Bytes()):
			return fmt.Errorf("the check's output does not match %q%s", pattern, lastLine(output.Bytes()))
		}
		return nil
	}
}

func lastLine(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if last == "" {
		return ""
	}
	if len(last) > 200 {
		last = last[:200] + "…"
	}
	return ": " + strings.ToValidUTF8(last, "?")
}
