// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// position is the place of a line among all lines of a guest: lines are ordered by epoch, then by stamp.
//
// The stamp is the time in nanoseconds, and no two lines of an epoch have the same. A new epoch begins when the clock
// was put back by more than a second, so that lines which are later in truth stay later in order.
type position struct {
	epoch uint32
	stamp int64
}

func (p position) before(other position) bool {
	return p.epoch < other.epoch || p.epoch == other.epoch && p.stamp < other.stamp
}

func (p position) later(other position) position {
	if p.before(other) {
		return other
	}
	return p
}

// String is the cursor that the protocol shows.
func (p position) String() string { return fmt.Sprintf("%d-%016x", p.epoch, p.stamp) }

func parsePosition(text string) (position, error) {
	epoch, stamp, found := strings.Cut(text, "-")
	first, errFirst := strconv.ParseUint(epoch, 10, 32)
	second, errSecond := strconv.ParseInt(stamp, 16, 64)
	if !found || errFirst != nil || errSecond != nil {
		return position{}, fmt.Errorf("cannot read from cursor %q: it is not one of these logs", text)
	}
	return position{uint32(first), second}, nil
}

// clock gives out stamps.
type clock struct {
	mutex sync.Mutex
	last  position
	now   func() int64 // tests replace it
}

const setBack = int64(time.Second)

func (c *clock) continueFrom(last position) { c.last = last }

// reserve takes count stamps that follow each other.
func (c *clock) reserve(count int) position {
	now := time.Now().UnixNano()
	if c.now != nil {
		now = c.now()
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	first := position{c.last.epoch, max(now, c.last.stamp+1)}
	if now < c.last.stamp-setBack {
		first = position{c.last.epoch + 1, now}
	}
	c.last = position{first.epoch, first.stamp + int64(count) - 1}
	return first
}

// stampBytes is the length of "2006-01-02T15:04:05.000000000Z".
const stampBytes = 30

// appendStamp writes a time in that form; it costs a tenth of time.Format.
func appendStamp(out []byte, nanoseconds int64) []byte {
	seconds := nanoseconds / 1e9
	out = time.Unix(seconds, 0).UTC().AppendFormat(out, "2006-01-02T15:04:05.")
	fraction := nanoseconds - seconds*1e9
	var digits [9]byte
	for index := 8; index >= 0; index-- {
		digits[index] = byte('0' + fraction%10)
		fraction /= 10
	}
	out = append(out, digits[:]...)
	return append(out, 'Z')
}

// parseStamp reads what appendStamp wrote.
func parseStamp(text []byte) (nanoseconds int64, ok bool) {
	if len(text) < stampBytes || text[10] != 'T' || text[29] != 'Z' {
		return 0, false
	}
	number := func(from, to int) int64 {
		var value int64
		for _, digit := range text[from:to] {
			if digit < '0' || digit > '9' {
				ok = false
				return 0
			}
			value = value*10 + int64(digit-'0')
		}
		return value
	}
	ok = true
	year, month, day := number(0, 4), number(5, 7), number(8, 10)
	hour, minute, second, fraction := number(11, 13), number(14, 16), number(17, 19), number(20, 29)
	if !ok {
		return 0, false
	}
	midnight := time.Date(int(year), time.Month(month), int(day), 0, 0, 0, 0, time.UTC).Unix()
	return (midnight+hour*3600+minute*60+second)*1e9 + fraction, true
}
