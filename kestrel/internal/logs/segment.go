// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// segment is one file. Its name says whose it is and where it begins: "<process>.<epoch>-<first stamp>.log", and
// its lines are "<time> <stream letter> <text>".
type segment struct {
	process string
	first   position
	name    string
	size    int64
}

const segmentSuffix = ".log"

func segmentName(process string, first position) string {
	return fmt.Sprintf("%s.%s%s", process, first, segmentSuffix)
}

func parseSegmentName(name string) (process string, first position, ok bool) {
	stem, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return "", position{}, false
	}
	dot := strings.LastIndexByte(stem, '.')
	if dot <= 0 {
		return "", position{}, false
	}
	epoch, stamp, found := strings.Cut(stem[dot+1:], "-")
	number, err := strconv.ParseUint(epoch, 10, 32)
	nanoseconds, errStamp := strconv.ParseInt(stamp, 16, 64)
	if !found || err != nil || errStamp != nil {
		return "", position{}, false
	}
	return stem[:dot], position{uint32(number), nanoseconds}, true
}

// listSegments lists a directory's segments, the oldest first. One that vanishes meanwhile is left out.
func listSegments(directory string) ([]segment, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	var segments []segment
	for _, entry := range entries {
		process, first, ok := parseSegmentName(entry.Name())
		if !ok {
			continue
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		segments = append(segments, segment{process, first, entry.Name(), info.Size()})
	}
	slices.SortFunc(segments, func(a, b segment) int {
		switch {
		case a.first.before(b.first):
			return -1
		case b.first.before(a.first):
			return 1
		default:
			return strings.Compare(a.process, b.process)
		}
	})
	return segments, nil
}

// lastStamp is the stamp of a file's last whole line.
func lastStamp(path string) (int64, bool) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, false
	}
	tail := make([]byte, min(info.Size(), 2*maxLine))
	if _, err := file.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && err != io.EOF {
		return 0, false
	}
	for len(tail) > 0 {
		end := bytes.LastIndexByte(tail, '\n')
		if end < 0 {
			break
		}
		begin := bytes.LastIndexByte(tail[:end], '\n') + 1
		if stamp, ok := parseStamp(tail[begin:end]); ok {
			return stamp, true
		}
		tail = tail[:begin]
	}
	return 0, false
}
