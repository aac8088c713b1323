// SPDX-License-Identifier: Apache-2.0

// Package config reads /etc/kestrel/config.yaml and knows what may stand in it.
//
// This package is the only definition of the schema: fledge runs `kestrel check-config` instead of keeping a second
// one, and contract/kestrel-config.schema.json exists for editors. Reading never stops at the first problem.
package config

import (
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// Config is a whole, valid configuration.
type Config struct {
	Exec   []Exec
	Health []Check // the workload's checks: the top-level `health`
	Hooks  Hooks
}

// Exec is one entry of `exec`. Pointers and empty values stand for "not said": the image's or the default applies.
type Exec struct {
	Name        string
	Command     string
	Args        []string
	Env         []Variable
	WorkingDir  string
	User        string
	DependsOn   []string
	RunOnce     *bool
	Init        *bool   // process 1 of a place of its own; nil: where the command is a known init
	Restart     Restart // empty: the default
	Backoff     time.Duration
	StopSignal  unix.Signal    // 0: the image's
	StopTimeout *time.Duration // nil: the default
	VsockCID    *uint32
	VsockPort   *uint32
	Health      []Check
}

// Variable is one entry of `env`. FromEnv: the variable of that name of the VM's environment must exist.
type Variable struct {
	Name    string
	Value   string
	FromEnv bool
}

// Restart says when a process that ended is started again.
type Restart string

// Restart policies.
const (
	RestartAlways    Restart = "always"
	RestartOnFailure Restart = "on-failure"
	RestartNever     Restart = "never"
)

// Defaults of the schema.
const (
	DefaultBackoff      = 500 * time.Millisecond
	DefaultStopTimeout  = 10 * time.Second
	DefaultHookTimeout  = 60 * time.Second
	DefaultInterval     = 10 * time.Second
	DefaultProbeTimeout = 2 * time.Second
	DefaultExecTimeout  = 10 * time.Second
	DefaultRetries      = 3
)

// CheckKind is how a check asks.
type CheckKind string

// Kinds of checks.
const (
	CheckHTTP CheckKind = "http"
	CheckTCP  CheckKind = "tcp"
	CheckExec CheckKind = "exec"
)

// Check is one health check with all defaults filled in.
type Check struct {
	Name               string // never empty: the given name, else the kind
	Kind               CheckKind
	Port               int
	Path               string // http
	Command            string // exec
	Args               []string
	SuccessPattern     *regexp.Regexp
	Interval           time.Duration
	Timeout            time.Duration
	Retries            int
	StartPeriod        time.Duration
	RestartOnUnhealthy bool
}

// Hooks are run once a boot, PostRestore in every copy of a snapshot. Each command is an argument list.
type Hooks struct {
	PreStart    [][]string
	PostStop    [][]string
	PostRestore [][]string
	Timeout     time.Duration // of each command
}

// Problem is one thing that is wrong with a file, as `kestrel check-config` prints it.
type Problem struct {
	File       string `json:"file"`
	Line       int    `json:"line"`
	Column     int    `json:"column"`
	Message    string `json:"message"`
	Resolution string `json:"resolution"`
}
