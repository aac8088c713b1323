// SPDX-License-Identifier: Apache-2.0

// Package control speaks the control protocol with volantd: JSON-RPC 2.0, one message a line, as
// src/volant/contract/agent.py documents it.
package control

import (
	"context"
	"time"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// Agent is what the protocol drives. Methods may be called from many goroutines at once.
type Agent interface {
	// Hello is the agent's half of the greeting; Version is filled in here.
	Hello() contract.Hello
	State() contract.AgentState
	// Subscribe returns a channel that gets a value after a change of the state, and a function that ends it.
	Subscribe() (changes <-chan struct{}, cancel func())
	// ReadLogs hands entries to emit and returns the cursor after the last; with Follow it goes on until the context
	// ends, which is no error.
	ReadLogs(
		ctx context.Context, query contract.LogQuery, emit func([]contract.LogEntry) error,
	) (cursor string, err error)
	Stats() (contract.AgentStats, error)
	ApplySettings(settings contract.SettingsApply) error
	// AuthorizeKey lets a public key open sessions for a while and returns the public host key of their server.
	AuthorizeKey(publicKey string, lifetime time.Duration) (hostKey string, err error)
	RunHook(ctx context.Context, name string) (exitCode int, err error)
	StartProcess(name string) error
	StopProcess(name string) error
	RestartProcess(name string) error
	SetClock(now time.Time) error
	// Freeze holds processes and, with disks, file systems still for a snapshot; Thaw lets them go on.
	Freeze(disks bool) error
	Thaw() error
	// Wake lets a frozen guest go on that slept in its host's files: with the time of now and fresh random numbers.
	Wake(now time.Time, entropy []byte) error
	// Become makes a frozen copy of a guest the VM of these settings, with random numbers of its own, and lets it go on.
	Become(ctx context.Context, settings *contract.GuestConfig, entropy []byte) error
	// GrowVolume makes the file system of the volume with this serial number as large as its disk has become.
	GrowVolume(serial string) error
	// TakeResources makes use of processors and memory that have come to the machine.
	TakeResources() error
	// Stop begins the end of the guest and returns.
	Stop(request contract.PowerStop) error
}

// Error is an answer with a code of the protocol (contract.ErrorNotFound and so on). An Agent may return it; any
// other error is told as contract.ErrorFailed.
type Error struct {
	Code    int
	Message string
}

func (e *Error) Error() string { return e.Message }
