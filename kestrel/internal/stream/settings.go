// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// A guest that wakes from memory is told who it is before it serves anybody: in plain text, since the keys to do it in
// any other way are among what it is told, and only the hypervisor's owner can write to this port. A line of
// SettingsPrefix, a word of the host's choice and the length of what follows; the answer is AnswerPrefix, that word and
// "ok" or what went wrong. A length of 0 only asks whether somebody listens.

var settingsMark = []byte(contract.SettingsPrefix)

const (
	settingsLineLimit  = 128
	settingsLimitBytes = 8 << 20
	answerPatience     = 10 * time.Second
)

// OnSettings has settings that a host sends taken from here on.
func (p *Port) OnSettings(take func(settings []byte) error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.take = take
}

// AwaitSettings serves nobody but a host that sends settings, until some were taken.
func (p *Port) AwaitSettings(take func(settings []byte) error) error {
	taken := false
	p.OnSettings(func(settings []byte) error {
		err := take(settings)
		taken = err == nil
		return err
	})
	defer p.OnSettings(nil)
	for {
		dev, err := p.open()
		if err != nil {
			return err
		}
		buffer := make([]byte, chunkSize)
		for !taken {
			var count int
			if count, err = dev.read(buffer, true); err != nil {
				break
			}
			if bytes.HasPrefix(buffer[:count], settingsMark) {
				if err = p.answerSettings(dev, bytes.Clone(buffer[:count])); err != nil {
					break
				}
			}
		}
		if taken {
			return nil
		}
		p.forget(dev)
	}
}

// answerSettings reads the rest of a message of which chunk is the beginning, and answers it. A host that goes away in
// the middle is no error.
func (p *Port) answerSettings(dev *device, chunk []byte) error {
	for !bytes.ContainsRune(chunk, '\n') {
		if len(chunk) > settingsLineLimit {
			return nil
		}
		if gone, err := dev.append(&chunk); gone || err != nil {
			return err
		}
	}
	line, body, _ := bytes.Cut(chunk, []byte("\n"))
	var word string
	var length int
	if _, err := fmt.Sscanf(string(line[len(settingsMark):]), "%s %d", &word, &length); err != nil {
		return nil
	}
	problem := errors.New("they are too long")
	if length >= 0 && length <= settingsLimitBytes {
		for len(body) < length {
			if gone, err := dev.append(&body); gone || err != nil {
				return err
			}
		}
		problem = p.takeSettings(body[:length])
	}
	answer := "ok"
	if problem != nil {
		answer = problem.Error()
	}
	_ = dev.file.SetWriteDeadline(time.Now().Add(answerPatience))
	_, err := dev.write(fmt.Appendf(nil, "\r\n%s%s %s\r\n", contract.AnswerPrefix, word, answer))
	return errors.Join(err, dev.rearm())
}

func (p *Port) takeSettings(settings []byte) error {
	p.mutex.Lock()
	take := p.take
	p.mutex.Unlock()
	switch {
	case take == nil:
		return errors.New("this guest takes no settings now")
	case len(settings) == 0:
		return nil
	}
	return take(settings)
}

// append reads what comes next onto data; gone: the host has.
func (d *device) append(data *[]byte) (gone bool, err error) {
	var buffer [chunkSize]byte
	count, err := d.read(buffer[:], false)
	*data = append(*data, buffer[:count]...)
	return count == 0 && err == nil, err
}
