// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/supervise"
)

// Error codes of JSON-RPC 2.0, section 5.1.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeMethodNotFound = -32601
	codeInvalidParams  = -32602
	codeInternal       = -32603
)

const (
	maxLineBytes = 1 << 20
	readBytes    = 4 << 10
	// Calls that take their time, at once; more of them is a host that has lost its mind.
	maxRunning = 64
)

type request struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *responseError  `json:"error,omitempty"`
}

type responseError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type notification struct {
	Version string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

// Serve answers one host until its stream ends. Calls that take their time run beside the others; everything that
// this host started or subscribed to ends with its stream.
func Serve(stream io.ReadWriter, agent Agent) error {
	ctx, cancel := context.WithCancel(context.Background())
	c := &conversation{agent: agent, ctx: ctx, stream: stream, running: make(map[string]context.CancelFunc)}
	defer c.background.Wait()
	defer cancel()
	return c.listen()
}

// conversation is one host's control channel.
type conversation struct {
	agent      Agent
	ctx        context.Context
	background sync.WaitGroup
	version    int // 0 until hello; used by the reading goroutine only
	subscribed bool

	writing sync.Mutex
	stream  io.ReadWriter

	mutex   sync.Mutex
	running map[string]context.CancelFunc // by request id as text
}

func (c *conversation) listen() error {
	reader := bufio.NewReaderSize(c.stream, readBytes)
	var long []byte
	for {
		piece, err := reader.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(long)+len(piece) > maxLineBytes {
				c.fail(nil, codeInvalidRequest, fmt.Sprintf("a message may have %d bytes", maxLineBytes))
				return errors.New("the host sent a line that is too long")
			}
			long = append(long, piece...)
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("cannot read from the host: %w", err)
		}
		if long != nil {
			piece, long = append(long, piece...), nil
		}
		if piece = bytes.TrimSpace(piece); len(piece) > 0 {
			c.answer(piece)
		}
	}
}

// answer handles one line. What it keeps of the line it copies.
func (c *conversation) answer(line []byte) {
	var call request
	if err := json.Unmarshal(line, &call); err != nil {
		if json.Valid(line) {
			c.fail(nil, codeInvalidRequest, "a request is one JSON object")
		} else {
			c.fail(nil, codeParse, "this is not JSON")
		}
		return
	}
	call.ID = bytes.Clone(call.ID)
	if !isID(call.ID) {
		c.fail(nil, codeInvalidRequest, "an id is a string or a number")
		return
	}
	if call.Version != "2.0" || call.Method == "" {
		c.fail(call.ID, codeInvalidRequest, `a request has "jsonrpc": "2.0" and a method`)
		return
	}
	found, ok := methods[call.Method]
	switch {
	case !ok:
		c.fail(call.ID, codeMethodNotFound, "this agent knows no method "+call.Method)
	case c.version == 0 && call.Method != "hello":
		c.fail(call.ID, contract.ErrorWrongState, "the first call is hello")
	case found.slow:
		c.runBeside(call, found)
	default:
		c.run(c.ctx, call, found)
	}
}

func (c *conversation) run(ctx context.Context, call request, found method) {
	result, err := c.call(ctx, call, found)
	if len(call.ID) == 0 { // a notification: nobody waits
		return
	}
	if err != nil {
		c.fail(call.ID, errorCode(err), err.Error())
		return
	}
	c.send(response{Version: "2.0", ID: call.ID, Result: result})
	if call.Method == "events.subscribe" {
		c.tellStates()
	}
}

func (c *conversation) call(ctx context.Context, call request, found method) (result any, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = &Error{codeInternal, fmt.Sprintf("the agent failed in %s: %v\n%s", call.Method, problem, debug.Stack())}
		}
	}()
	return found.serve(c, ctx, call)
}

func (c *conversation) runBeside(call request, found method) {
	id := string(call.ID)
	c.mutex.Lock()
	_, taken := c.running[id]
	full := len(c.running) >= maxRunning
	if taken || full || id == "" {
		c.mutex.Unlock()
		switch {
		case full:
			c.fail(call.ID, contract.ErrorWrongState, fmt.Sprintf("%d calls are running already", maxRunning))
		case taken:
			c.fail(call.ID, codeInvalidRequest, "a call with this id is running")
		default:
			c.fail(nil, codeInvalidRequest, call.Method+" needs an id")
		}
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	c.running[id] = cancel
	c.mutex.Unlock()
	call.Params = bytes.Clone(call.Params)
	c.background.Go(func() {
		defer cancel()
		c.run(ctx, call, found)
		c.mutex.Lock()
		delete(c.running, id)
		c.mutex.Unlock()
	})
}

// tellStates sends the state at once and after every change; changes that come while a message is on its way, or that
// leave the state as it was, are told as one or not at all.
func (c *conversation) tellStates() {
	if c.subscribed {
		return
	}
	c.subscribed = true
	changes, cancel := c.agent.Subscribe()
	c.background.Go(func() {
		defer cancel()
		var last []byte
		for {
			state, err := json.Marshal(c.agent.State())
			if err == nil && !bytes.Equal(state, last) {
				last = state
				c.notify("state", map[string]json.RawMessage{"state": state})
			}
			select {
			case <-c.ctx.Done():
				return
			case _, open := <-changes:
				if !open {
					return
				}
			}
		}
	})
}

func (c *conversation) notify(method string, params any) {
	c.send(notification{Version: "2.0", Method: method, Params: params})
}

func (c *conversation) fail(id json.RawMessage, code int, message string) {
	c.send(response{Version: "2.0", ID: id, Error: &responseError{Code: code, Message: message}})
}

// send writes one line. A stream that fails also fails to be read, so its errors are met there.
func (c *conversation) send(message any) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(message) != nil {
		return
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, _ = c.stream.Write(line.Bytes())
}

func isID(id json.RawMessage) bool {
	return len(id) == 0 || id[0] == '"' || id[0] == '-' || (id[0] >= '0' && id[0] <= '9')
}

func errorCode(err error) int {
	var ours *Error
	if errors.As(err, &ours) {
		return ours.Code
	}
	var theirs *supervise.Error
	if errors.As(err, &theirs) {
		return theirs.Code
	}
	return contract.ErrorFailed
}

// chooseVersion is the highest version that both sides know.
func chooseVersion(theirs []int) (int, bool) {
	best := 0
	for _, version := range theirs {
		if version > best && slices.Contains(contract.ProtocolVersions, version) {
			best = version
		}
	}
	return best, best > 0
}
