// SPDX-License-Identifier: Apache-2.0

package contract

import "encoding/json"

// HealthState is the health of a check, a process or the VM.
type HealthState string

// Health states.
const (
	HealthStarting  HealthState = "starting"
	HealthHealthy   HealthState = "healthy"
	HealthUnhealthy HealthState = "unhealthy"
	HealthUnknown   HealthState = "unknown"
)

// Phase is where the guest is in its life.
type Phase string

// Phases.
const (
	PhaseBooting  Phase = "booting"
	PhaseStarting Phase = "starting"
	PhaseRunning  Phase = "running"
	PhaseStopping Phase = "stopping"
	PhaseStopped  Phase = "stopped"
	PhaseFailed   Phase = "failed"
)

// ProcessStatus is the state of one supervised process.
type ProcessStatus string

// Process states.
const (
	ProcessWaiting  ProcessStatus = "waiting"
	ProcessStarting ProcessStatus = "starting"
	ProcessRunning  ProcessStatus = "running"
	ProcessBackoff  ProcessStatus = "backoff"
	ProcessExited   ProcessStatus = "exited"
	ProcessStopped  ProcessStatus = "stopped"
	ProcessFailed   ProcessStatus = "failed"
)

// Error codes of the control protocol besides JSON-RPC's own.
const (
	ErrorNotFound     = 1
	ErrorWrongState   = 2
	ErrorFailed       = 3
	ErrorNotSupported = 4
)

// GreetingPrefix begins the line on the control stream that repeats the host's SSH identification; what the host reads
// before that line was meant for an earlier one.
const GreetingPrefix = "kestrel greets "

// Hello answers the first call.
type Hello struct {
	Version      int      `json:"version"`
	AgentVersion string   `json:"agent_version"`
	Features     []string `json:"features,omitempty"`
	BootID       string   `json:"boot_id"`
}

// HelloParams are the host's side of hello.
type HelloParams struct {
	Versions    []int  `json:"versions"`
	HostVersion string `json:"host_version"`
}

// Check is one health check. Kind is http, tcp or exec; ChangedAt is RFC 3339.
type Check struct {
	Name      string      `json:"name"`
	Kind      string      `json:"kind"`
	State     HealthState `json:"state"`
	Reason    string      `json:"reason"`
	ChangedAt string      `json:"changed_at"`
	Failures  int         `json:"failures"`
}

// ProcessState is one entry of kestrel's exec, or the image's command.
type ProcessState struct {
	Name      string        `json:"name"`
	State     ProcessStatus `json:"state"`
	PID       *int          `json:"pid"`
	ExitCode  *int          `json:"exit_code"`
	Signal    *string       `json:"signal"`
	Restarts  int           `json:"restarts"`
	Reason    string        `json:"reason"`
	Message   string        `json:"message"` // what it left of its end, where it was offered a file for it
	StartedAt *string       `json:"started_at"`
}

// CloudInitState says what became of user-data. Status: none, running, done, error; By: "", kestrel, cloud-init.
type CloudInitState struct {
	Status         string   `json:"status"`
	By             string   `json:"by"`
	Errors         []string `json:"errors,omitempty"`
	UnknownModules []string `json:"unknown_modules,omitempty"`
}

// BootTimes are guest-side milliseconds since the agent's first line.
type BootTimes struct {
	ModuleLoadMs float64 `json:"module_load_ms"`
	MainToExecMs float64 `json:"main_to_exec_ms"`
}

// AgentState is the whole state of the guest, answered by state.get and told at every change.
type AgentState struct {
	Phase        Phase          `json:"phase"`
	Reason       string         `json:"reason"`
	Health       HealthState    `json:"health"`
	HealthReason string         `json:"health_reason"`
	Checks       []Check        `json:"checks,omitempty"`
	Processes    []ProcessState `json:"processes,omitempty"`
	CloudInit    CloudInitState `json:"cloud_init"`
	Addresses    []string       `json:"addresses,omitempty"`
	Warnings     []string       `json:"warnings,omitempty"`
	Result       *int           `json:"result"`
	Boot         BootTimes      `json:"boot"`
	Kernel       string         `json:"kernel"`
}

// LogQuery asks for log entries; an empty Process: all of them, "kestrel": the agent itself.
type LogQuery struct {
	Process string `json:"process"`
	Tail    *int   `json:"tail"`
	Since   string `json:"since"`
	Cursor  string `json:"cursor"`
	Follow  bool   `json:"follow"`
}

// LogEntry is one line. Stream is stdout, stderr or agent.
type LogEntry struct {
	Cursor  string `json:"cursor"`
	Time    string `json:"time"`
	Process string `json:"process"`
	Stream  string `json:"stream"`
	Line    string `json:"line"`
}

// AgentStats are the guest's use of its resources since boot.
type AgentStats struct {
	UptimeSeconds        float64 `json:"uptime_seconds"`
	CPUMicroseconds      int64   `json:"cpu_microseconds"`
	MemoryTotalBytes     int64   `json:"memory_total_bytes"`
	MemoryUsedBytes      int64   `json:"memory_used_bytes"`
	DiskTotalBytes       int64   `json:"disk_total_bytes"`
	DiskUsedBytes        int64   `json:"disk_used_bytes"`
	NetworkReceivedBytes int64   `json:"network_received_bytes"`
	NetworkSentBytes     int64   `json:"network_sent_bytes"`
	AgentMemoryBytes     int64   `json:"agent_memory_bytes"`
}

// SettingsApply are the params of settings.apply; what is nil stays as it is.
type SettingsApply struct {
	HealthCheck *HealthCheck      `json:"health_check,omitempty"`
	WorkloadEnv map[string]string `json:"workload_env,omitempty"`
}

// AuthorizeParams are the params of ssh.authorize, AuthorizeResult its result.
type AuthorizeParams struct {
	PublicKey  string `json:"public_key"`
	TTLSeconds int    `json:"ttl_seconds"`
}

// AuthorizeResult carries the public host key of the session SSH server.
type AuthorizeResult struct {
	HostKey string `json:"host_key"`
}

// SnapshotWake are the params of snapshot.wake: the time, and at least 32 bytes of the host's randomness (base64).
type SnapshotWake struct {
	UnixTimeNanoseconds int64  `json:"unix_time_nanoseconds"`
	Entropy             []byte `json:"entropy_base64"`
}

// SnapshotFreeze are the params of snapshot.freeze. Disks false: file systems need not be whole without the memory.
type SnapshotFreeze struct {
	Disks *bool `json:"disks"`
}

// CloneBecome are the params of clone.become: a guest.json, and at least 32 bytes of the host's randomness (base64).
type CloneBecome struct {
	GuestConfig json.RawMessage `json:"guest_config"`
	Entropy     []byte          `json:"entropy_base64"`
}

// PowerStop are the params of power.stop. Action is "poweroff" or "reboot".
type PowerStop struct {
	Action          string  `json:"action"`
	DeadlineSeconds float64 `json:"deadline_seconds"`
}
