// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/control"
	"github.com/volantvm/volant/kestrel/internal/control/controltest"
)

// host is the other end of a conversation.
type host struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Reader
	ended chan error
}

func talkTo(t *testing.T, agent control.Agent) *host {
	t.Helper()
	ours, theirs := net.Pipe()
	h := &host{t: t, conn: ours, lines: bufio.NewReader(ours), ended: make(chan error, 1)}
	go func() {
		h.ended <- control.Serve(theirs, agent)
		_ = theirs.Close()
	}()
	t.Cleanup(func() { _ = ours.Close() })
	return h
}

func (h *host) send(line string) {
	h.t.Helper()
	if _, err := io.WriteString(h.conn, line+"\n"); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) receive() map[string]any {
	h.t.Helper()
	line, err := h.lines.ReadBytes('\n')
	if err != nil {
		h.t.Fatal(err)
	}
	var message map[string]any
	if err := json.Unmarshal(line, &message); err != nil {
		h.t.Fatalf("%q: %v", line, err)
	}
	return message
}

func (h *host) greet() {
	h.t.Helper()
	h.send(`{"jsonrpc": "2.0", "id": 0, "method": "hello", "params": {"versions": [1]}}`)
	if answer := h.receive(); answer["error"] != nil {
		h.t.Fatal(answer)
	}
}

func code(message map[string]any) float64 {
	failure, _ := message["error"].(map[string]any)
	number, _ := failure["code"].(float64)
	return number
}

// The golden documents are conversations; pytest reads the same files to see that the models accept them.
func TestGoldenConversations(t *testing.T) {
	files, err := filepath.Glob("../../../contract/golden/control/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden conversations: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var document struct {
				Exchange []struct {
					Host  json.RawMessage
					Guest map[string]any
				}
			}
			if err := json.Unmarshal(content, &document); err != nil {
				t.Fatal(err)
			}
			agent := controltest.New()
			agent.Log("first <line>", "second")
			h := talkTo(t, agent)
			var states []map[string]any // a change may be told before or after the answer to what caused it
			for _, message := range document.Exchange {
				if message.Host != nil {
					h.send(string(message.Host))
					continue
				}
				wantsState := message.Guest["method"] == "state"
				var got map[string]any
				if wantsState && len(states) > 0 {
					got, states = states[0], states[1:]
				} else {
					got = h.receive()
					for !wantsState && got["method"] == "state" {
						states = append(states, got)
						got = h.receive()
					}
				}
				if !reflect.DeepEqual(got, message.Guest) {
					t.Fatalf("the guest says\n%v\nand should say\n%v", got, message.Guest)
				}
			}
		})
	}
}

func TestFollowedLogsEndWithTheirCancellation(t *testing.T) {
	agent := controltest.New()
	h := talkTo(t, agent)
	h.greet()
	h.send(`{"jsonrpc": "2.0", "id": "follow", "method": "logs.read", "params": {"follow": true}}`)
	agent.Log("one")
	if message := h.receive(); message["method"] != "log" {
		t.Fatal(message)
	}
	h.send(`{"jsonrpc": "2.0", "id": 2, "method": "state.get"}`)
	if message := h.receive(); message["id"] != 2.0 {
		t.Fatalf("a followed log kept another call waiting: %v", message)
	}
	h.send(`{"jsonrpc": "2.0", "id": 3, "method": "logs.cancel", "params": {"id": "follow"}}`)
	answered := map[string]map[string]any{}
	for range 2 {
		message := h.receive()
		answered[fmt.Sprint(message["id"])] = message
	}
	result, _ := answered["follow"]["result"].(map[string]any)
	if result["cursor"] != "1" || answered["3"]["error"] != nil {
		t.Errorf("answers %v", answered)
	}
}

func TestTheEndOfTheStreamEndsEverything(t *testing.T) {
	agent := controltest.New()
	h := talkTo(t, agent)
	h.greet()
	h.send(`{"jsonrpc": "2.0", "id": 1, "method": "events.subscribe"}`)
	h.receive()
	h.receive()
	h.send(`{"jsonrpc": "2.0", "id": 2, "method": "logs.read", "params": {"follow": true}}`)
	_ = h.conn.Close()
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	if agent.Watchers() != 0 {
		t.Error("the subscription outlived its host")
	}
}

func TestManyChangesAreToldAsOne(t *testing.T) {
	agent := controltest.New()
	h := talkTo(t, agent)
	h.greet()
	h.send(`{"jsonrpc": "2.0", "id": 1, "method": "events.subscribe"}`)
	h.receive()
	// The pipe has no buffer, so the first state waits for us while these happen.
	for range 1000 {
		if err := agent.RestartProcess("web"); err != nil {
			t.Fatal(err)
		}
	}
	for told := 1; ; told++ {
		params, _ := h.receive()["params"].(map[string]any)
		state, _ := params["state"].(map[string]any)
		process, _ := state["processes"].([]any)[0].(map[string]any)
		if process["restarts"] == 1000.0 {
			break
		}
		if told > 3 {
			t.Fatalf("%d states were told for changes that came together", told)
		}
	}
}

func TestBadMessages(t *testing.T) {
	for line, want := range map[string]float64{
		`{`:        -32700,
		"\xff\xfe": -32700,
		`[]`:       -32600,
		`"text"`:   -32600,
		`{}`:       -32600,
		`{"jsonrpc": "1.0", "id": 1, "method": "state.get"}`:                             -32600,
		`{"jsonrpc": "2.0", "id": {}, "method": "state.get"}`:                            -32600,
		`{"jsonrpc": "2.0", "id": 1, "method": 5}`:                                       -32600,
		`{"jsonrpc": "2.0", "id": 1, "method": "clock.set", "params": []}`:               -32602,
		`{"jsonrpc": "2.0", "id": 1, "method": "clock.set"}`:                             -32602,
		`{"jsonrpc": "2.0", "id": 1, "method": "volume.grow"}`:                           -32602,
		`{"jsonrpc": "2.0", "id": 1, "method": "process.stop"}`:                          -32602,
		`{"jsonrpc": "2.0", "method": "logs.read"}`:                                      -32600,
		`{"jsonrpc": "2.0", "id": 1, "method": "logs.read", "params": {"tail": -1}}`:     -32602,
		`{"jsonrpc": "2.0", "id": 1, "method": "logs.read", "params": {"follow": "si"}}`: -32602,
	} {
		t.Run(line, func(t *testing.T) {
			h := talkTo(t, controltest.New())
			h.greet()
			h.send(line)
			if got := h.receive(); code(got) != want {
				t.Errorf("answer %v, want code %v", got, want)
			}
			h.send(`{"jsonrpc": "2.0", "id": 99, "method": "state.get"}`)
			if got := h.receive(); got["id"] != 99.0 {
				t.Errorf("the conversation did not go on: %v", got)
			}
		})
	}
}

func TestALineThatIsTooLongEndsTheConversation(t *testing.T) {
	h := talkTo(t, controltest.New())
	go func() {
		_, _ = io.WriteString(h.conn, strings.Repeat("x", 3<<20))
	}()
	if got := h.receive(); code(got) != -32600 {
		t.Error(got)
	}
	if err := <-h.ended; err == nil {
		t.Error("it ended without an error")
	}
}

func TestLongLogsAreSplitIntoMessagesBelowTheLimit(t *testing.T) {
	agent := controltest.New()
	for range 8 {
		agent.Log(strings.Repeat("\x01", 100_000)) // each byte is escaped to six
	}
	h := talkTo(t, agent)
	h.greet()
	h.send(`{"jsonrpc": "2.0", "id": 1, "method": "logs.read"}`)
	entries := 0
	for {
		line, err := h.lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if len(line) > 1<<20 {
			t.Fatalf("a message of %d bytes", len(line))
		}
		var message struct {
			Method string
			Params struct{ Entries []any }
		}
		if err := json.Unmarshal(line, &message); err != nil {
			t.Fatal(err)
		}
		if message.Method != "log" {
			break
		}
		entries += len(message.Params.Entries)
	}
	if entries != 8 {
		t.Errorf("%d entries of 8", entries)
	}
}

// Whatever arrives, the agent answers in JSON or not at all, and ends with the stream.
func FuzzServe(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc": "2.0", "id": 1, "method": "state.get"}`,
		`{"jsonrpc": "2.0", "id": "a", "method": "logs.read", "params": {"follow": true, "tail": 3}}`,
		`{"jsonrpc": "2.0", "id": -1.5, "method": "ssh.authorize", "params": {"public_key": "", "ttl_seconds": 1}}`,
		`{"jsonrpc": "2.0", "id": 1, "method": "events.subscribe"}` + "\n" + `{"jsonrpc":"2.0","id":2,"method":"power.stop","params":{"action":"reboot"}}`,
		`[[[[`, `{"id": null}`, "\n\n", `{"jsonrpc": "2.0", "method": "hello"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		var answers strings.Builder
		greeting := `{"jsonrpc": "2.0", "id": 0, "method": "hello", "params": {"versions": [1]}}` + "\n"
		stream := struct {
			io.Reader
			io.Writer
		}{io.MultiReader(strings.NewReader(greeting), strings.NewReader(string(input)), strings.NewReader("\n")), &answers}
		_ = control.Serve(stream, controltest.New())
		for line := range strings.Lines(answers.String()) {
			if !json.Valid([]byte(line)) {
				t.Fatalf("answered %q", line)
			}
		}
	})
}
