// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// maxKeyLifetime bounds what a mistaken host can leave open.
const maxKeyLifetime = 24 * time.Hour

// minEntropyBytes make two copies of one memory differ for sure: what a generator of the kernel is seeded with.
const minEntropyBytes = 32

// A notification of log entries stays below the line limit even if every byte of it must be escaped as \u00XX.
const maxLogBytes = maxLineBytes / 8

// method serves one call. A slow one runs in a goroutine of its own and can be cancelled.
type method struct {
	slow  bool
	serve func(c *conversation, ctx context.Context, call request) (any, error)
}

// empty is the result of calls that have nothing to say.
type empty struct{}

// methods is the protocol's table. It is filled in init because the serving functions lead back to it.
var methods map[string]method

func init() {
	methods = map[string]method{
		"hello":            {serve: serveHello},
		"state.get":        {serve: serveState},
		"events.subscribe": {serve: func(*conversation, context.Context, request) (any, error) { return empty{}, nil }},
		"logs.read":        {serve: serveLogs, slow: true},
		"logs.cancel":      {serve: serveCancel},
		"stats.get":        {serve: serveStats},
		"settings.apply":   {serve: serveApply},
		"ssh.authorize":    {serve: serveAuthorize},
		"hooks.run":        {serve: serveHook, slow: true},
		"process.start":    {serve: serveProcess(Agent.StartProcess), slow: true},
		"process.stop":     {serve: serveProcess(Agent.StopProcess), slow: true},
		"process.restart":  {serve: serveProcess(Agent.RestartProcess), slow: true},
		"clock.set":        {serve: serveClock},
		"volume.grow":      {serve: serveGrow, slow: true},
		"resources.online": {serve: func(c *conversation, _ context.Context, _ request) (any, error) {
			return empty{}, c.agent.TakeResources()
		}, slow: true},
		"power.stop":      {serve: servePower},
		"snapshot.freeze": {serve: serveFreeze, slow: true},
		"snapshot.thaw":   {serve: func(c *conversation, _ context.Context, _ request) (any, error) { return empty{}, c.agent.Thaw() }, slow: true},
		"snapshot.wake":   {serve: serveWake, slow: true},
		"clone.become":    {serve: serveBecome, slow: true},
	}
}

func readParams[P any](call request) (params P, err error) {
	if len(call.Params) == 0 || bytes.Equal(call.Params, []byte("null")) {
		return params, nil
	}
	if err := json.Unmarshal(call.Params, &params); err != nil {
		return params, &Error{codeInvalidParams, fmt.Sprintf("%s: %v", call.Method, err)}
	}
	return params, nil
}

func invalid(call request, what string) error {
	return &Error{codeInvalidParams, call.Method + ": " + what}
}

func serveHello(c *conversation, _ context.Context, call request) (any, error) {
	params, err := readParams[contract.HelloParams](call)
	if err != nil {
		return nil, err
	}
	version, ok := chooseVersion(params.Versions)
	if !ok {
		return nil, &Error{
			contract.ErrorNotSupported,
			fmt.Sprintf("no common version: this agent speaks %v, the host %v", contract.ProtocolVersions, params.Versions),
		}
	}
	c.version = version
	hello := c.agent.Hello()
	hello.Version = version
	return hello, nil
}

func serveState(c *conversation, _ context.Context, _ request) (any, error) {
	return c.agent.State(), nil
}

func serveStats(c *conversation, _ context.Context, _ request) (any, error) { return c.agent.Stats() }

func serveLogs(c *conversation, ctx context.Context, call request) (any, error) {
	query, err := readParams[contract.LogQuery](call)
	if err != nil {
		return nil, err
	}
	if query.Tail != nil && *query.Tail < 0 {
		return nil, invalid(call, "tail is a number of lines")
	}
	cursor, err := c.agent.ReadLogs(ctx, query, func(entries []contract.LogEntry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		for len(entries) > 0 {
			count := fittingEntries(entries)
			c.notify("log", struct {
				ID      json.RawMessage     `json:"id"`
				Entries []contract.LogEntry `json:"entries"`
			}{call.ID, entries[:count]})
			entries = entries[count:]
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	return struct {
		Cursor string `json:"cursor"`
	}{cursor}, nil
}

// fittingEntries is how many entries go into one message; an entry that is too long on its own is cut.
func fittingEntries(entries []contract.LogEntry) int {
	size := 0
	for index := range entries {
		entry := &entries[index]
		if len(entry.Line) > maxLogBytes {
			entry.Line = entry.Line[:maxLogBytes]
		}
		size += len(entry.Line) + len(entry.Process) + 128
		if size > maxLogBytes && index > 0 {
			return index
		}
	}
	return len(entries)
}

func serveCancel(c *conversation, _ context.Context, call request) (any, error) {
	params, err := readParams[struct {
		ID json.RawMessage `json:"id"`
	}](call)
	if err != nil {
		return nil, err
	}
	c.mutex.Lock()
	cancel, ok := c.running[string(params.ID)]
	c.mutex.Unlock()
	if !ok {
		return nil, &Error{contract.ErrorNotFound, "no call with this id is running"}
	}
	cancel()
	return empty{}, nil
}

func serveApply(c *conversation, _ context.Context, call request) (any, error) {
	settings, err := readParams[contract.SettingsApply](call)
	if err != nil {
		return nil, err
	}
	return empty{}, c.agent.ApplySettings(settings)
}

func serveAuthorize(c *conversation, _ context.Context, call request) (any, error) {
	params, err := readParams[contract.AuthorizeParams](call)
	if err != nil {
		return nil, err
	}
	lifetime := time.Duration(params.TTLSeconds) * time.Second
	if params.TTLSeconds <= 0 || lifetime > maxKeyLifetime || params.TTLSeconds > int(maxKeyLifetime/time.Second) {
		return nil, invalid(call, "ttl_seconds is from 1 to 86400")
	}
	hostKey, err := c.agent.AuthorizeKey(params.PublicKey, lifetime)
	return contract.AuthorizeResult{HostKey: hostKey}, err
}

func serveHook(c *conversation, ctx context.Context, call request) (any, error) {
	params, err := readParams[struct {
		Name string `json:"name"`
	}](call)
	if err != nil {
		return nil, err
	}
	if params.Name != "pre_start" && params.Name != "post_stop" && params.Name != "post_restore" {
		return nil, invalid(call, "name is pre_start, post_stop or post_restore")
	}
	code, err := c.agent.RunHook(ctx, params.Name)
	return struct {
		ExitCode int `json:"exit_code"`
	}{code}, err
}

func serveProcess(act func(Agent, string) error) func(*conversation, context.Context, request) (any, error) {
	return func(c *conversation, _ context.Context, call request) (any, error) {
		params, err := readParams[struct {
			Name string `json:"name"`
		}](call)
		if err != nil {
			return nil, err
		}
		if params.Name == "" {
			return nil, invalid(call, "name says which process")
		}
		return empty{}, act(c.agent, params.Name)
	}
}

// serveWake passes on what a guest needs that has slept.
func serveWake(c *conversation, _ context.Context, call request) (any, error) {
	params, err := readParams[contract.SnapshotWake](call)
	if err != nil {
		return nil, err
	}
	if len(params.Entropy) < minEntropyBytes {
		return nil, invalid(call, fmt.Sprintf("entropy has at least %d bytes", minEntropyBytes))
	}
	if params.UnixTimeNanoseconds <= 0 {
		return nil, invalid(call, "unix_time_nanoseconds is a time after 1970")
	}
	return empty{}, c.agent.Wake(time.Unix(0, params.UnixTimeNanoseconds), params.Entropy)
}

// serveBecome passes on the settings of the VM that this copy is to be, in the form of guest.json.
func serveBecome(c *conversation, ctx context.Context, call request) (any, error) {
	params, err := readParams[contract.CloneBecome](call)
	if err != nil {
		return nil, err
	}
	settings, err := contract.ParseGuestConfig(params.GuestConfig)
	if err != nil {
		return nil, invalid(call, "guest_config: "+err.Error())
	}
	if len(params.Entropy) < minEntropyBytes {
		return nil, invalid(call, fmt.Sprintf("entropy has at least %d bytes", minEntropyBytes))
	}
	return empty{}, c.agent.Become(ctx, settings, params.Entropy)
}

// serveFreeze lets the guest go on again where nobody waits for the answer any more.
func serveFreeze(c *conversation, ctx context.Context, call request) (any, error) {
	params, err := readParams[contract.SnapshotFreeze](call)
	if err != nil {
		return nil, err
	}
	err = c.agent.Freeze(params.Disks == nil || *params.Disks)
	if err == nil && ctx.Err() != nil {
		err = c.agent.Thaw()
	}
	return empty{}, err
}

func serveClock(c *conversation, _ context.Context, call request) (any, error) {
	params, err := readParams[struct {
		Nanoseconds int64 `json:"unix_time_nanoseconds"`
	}](call)
	if err != nil {
		return nil, err
	}
	if params.Nanoseconds <= 0 {
		return nil, invalid(call, "unix_time_nanoseconds is a time after 1970")
	}
	return empty{}, c.agent.SetClock(time.Unix(0, params.Nanoseconds))
}

func serveGrow(c *conversation, _ context.Context, call request) (any, error) {
	params, err := readParams[struct {
		Serial string `json:"serial"`
	}](call)
	if err != nil {
		return nil, err
	}
	if params.Serial == "" {
		return nil, invalid(call, "serial says which volume")
	}
	return empty{}, c.agent.GrowVolume(params.Serial)
}

func servePower(c *conversation, _ context.Context, call request) (any, error) {
	params, err := readParams[contract.PowerStop](call)
	if err != nil {
		return nil, err
	}
	if params.Action != "poweroff" && params.Action != "reboot" {
		return nil, invalid(call, "action is poweroff or reboot")
	}
	if params.DeadlineSeconds < 0 {
		return nil, invalid(call, "deadline_seconds is not negative")
	}
	return empty{}, c.agent.Stop(params)
}
