// SPDX-License-Identifier: Apache-2.0

// Package contract mirrors src/volant/contract: what the host's programs and the guest agent say to each other.
//
// The Python models are the documentation of every field; the golden documents under contract/golden are read by the
// tests of both languages, so a field that one side renames fails a test here. Fields that this agent does not know
// are ignored when it reads (an older agent under a newer host). Lists and maps are left out when empty, because Go's
// nil would become a JSON null that the other side refuses.
package contract

// Places that both sides agree on.
const (
	// GuestConfigPath is where the boot archive holds guest.json.
	GuestConfigPath = "/volant/guest.json"
	// ModulesFolder holds the kernel modules of the boot archive.
	ModulesFolder = "/volant/modules"
	// ImageConfigPath is the image's own run configuration, a file of the root disk.
	ImageConfigPath = "/etc/kestrel/image.json"
	// KestrelConfigPath is the user's configuration of the agent.
	KestrelConfigPath = "/etc/kestrel/config.yaml"
	// AgentPath is where the running agent can be found in every guest.
	AgentPath = "/usr/local/bin/kestrel"
	// SessionSocket is the UNIX socket of the SSH server for people's sessions.
	SessionSocket = "/run/kestrel/ssh.sock"
	// ControlPortName is the default name of the virtio-serial port that carries the control stream.
	ControlPortName = "volant.control.0"
	// FoldersPortName is the default name of the virtio-serial port that leads to the host's file server.
	FoldersPortName = "volant.folders.0"
	// ForwardBindAddress is the bind address of a tcpip-forward that asks for a vsock port of CID 2.
	ForwardBindAddress = "vsock"
	// SettingsPrefix begins the line by which a host tells a guest that woke from memory who it is, AnswerPrefix the
	// guest's answer.
	SettingsPrefix = "VOLANT-SETTINGS "
	AnswerPrefix   = "kestrel answers "
	// RuntimeFolder is the agent's own, in RAM.
	RuntimeFolder = "/run/kestrel"
	// ModulesSerial is the serial number of the disk with the kernel's modules.
	ModulesSerial = "modules"
	// RunningAgent is the binary that runs, in every guest, whatever the disk allows.
	RunningAgent = "/run/kestrel/kestrel"
	// BinFolder leads PATH for every process and session: the commands that the agent answers, and kestrel itself where
	// AgentPath cannot be had.
	BinFolder = "/run/kestrel/bin"
	// DefaultPath is PATH where the image sets none; BinFolder comes before it or before the image's.
	DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// ProtocolVersions are the versions of the control protocol that this agent speaks.
var ProtocolVersions = []int{1}
