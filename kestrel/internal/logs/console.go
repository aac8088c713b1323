// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// Console copies lines to the serial console: "[name] text". A serial line is slow, so each process may write only so
// much; a flood is cut, which is told now and then, and the others are still seen. Whoever writes never waits for it.
type Console struct {
	output io.Writer
	wakeup chan struct{}
	done   chan struct{}

	mutex   sync.Mutex
	pending []byte
	budgets map[string]*budget // by tag
	dropped int
	told    time.Time // when what was dropped was last told
	closed  bool
}

// budget is a token bucket in bytes.
type budget struct {
	bytes  float64
	filled time.Time
}

const (
	consoleBytesPerSecond = 8 << 10
	consoleBurstBytes     = 32 << 10
	consolePendingBytes   = 64 << 10
	consoleTellEvery      = 5 * time.Second
)

// NewConsole starts to copy to a writer, which may block.
func NewConsole(output io.Writer) *Console {
	console := &Console{
		output:  output,
		wakeup:  make(chan struct{}, 1),
		done:    make(chan struct{}),
		budgets: make(map[string]*budget),
	}
	go console.loop()
	return console
}

// Close writes what is pending, unless the console is stuck for longer than limit.
func (c *Console) Close(limit time.Duration) {
	c.mutex.Lock()
	c.closed = true
	c.mutex.Unlock()
	c.wake()
	select {
	case <-c.done:
	case <-time.After(limit):
	}
}

func (c *Console) show(tag, lines []byte, count int, important bool) {
	cost := len(lines) + count*len(tag)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.closed {
		return
	}
	now := time.Now()
	limit := consolePendingBytes
	own := c.budgets[string(tag)]
	if own == nil {
		own = &budget{consoleBurstBytes, now}
		c.budgets[string(tag)] = own
	}
	own.bytes = min(consoleBurstBytes, own.bytes+now.Sub(own.filled).Seconds()*consoleBytesPerSecond)
	own.filled = now
	if important { // the agent says little, and what it says is why people look here
		limit *= 2
	} else if float64(cost) > own.bytes {
		c.dropped += count
		return
	}
	if len(c.pending)+cost > limit {
		c.dropped += count
		return
	}
	own.bytes -= float64(cost)
	if c.dropped > 0 && now.Sub(c.told) >= consoleTellEvery {
		c.told = now
		c.noteDropped()
	}
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n') + 1
		if end == 0 {
			end = len(lines)
		}
		c.pending = append(c.pending, tag...)
		c.pending = append(c.pending, lines[:end]...)
		lines = lines[end:]
	}
	c.wake()
}

func (c *Console) noteDropped() {
	c.pending = fmt.Appendf(c.pending, "[kestrel] %d lines are not shown here; they are in the logs\n", c.dropped)
	c.dropped = 0
}

func (c *Console) wake() {
	select {
	case c.wakeup <- struct{}{}:
	default:
	}
}

func (c *Console) loop() {
	defer close(c.done)
	var spare []byte
	for range c.wakeup {
		c.mutex.Lock()
		if c.closed && c.dropped > 0 {
			c.noteDropped()
		}
		text, closed := c.pending, c.closed
		c.pending = spare[:0]
		c.mutex.Unlock()
		if len(text) > 0 {
			_, _ = c.output.Write(text) // nobody is left to be told
		}
		spare = text
		if cap(spare) > 4*maxLine {
			spare = nil
		}
		if closed {
			return
		}
	}
}
