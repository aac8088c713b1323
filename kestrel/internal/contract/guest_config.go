// SPDX-License-Identifier: Apache-2.0

package contract

// GuestConfig is guest.json: one VM's settings (contract/guest_config.py).
type GuestConfig struct {
	SchemaVersion       int                 `json:"schema_version"`
	VMID                string              `json:"vm_id"` // empty: no volantd knows this guest
	VMName              string              `json:"vm_name"`
	Hostname            string              `json:"hostname"`
	Root                *Root               `json:"root"` // null: stay in RAM (initramfs plugin)
	Network             GuestNetwork        `json:"network"`
	Control             Control             `json:"control"`
	SSH                 SSH                 `json:"ssh"`
	Mounts              []Mount             `json:"mounts,omitempty"`
	Folders             *HostFolders        `json:"folders"`
	Secrets             []SecretPort        `json:"secrets,omitempty"`
	Files               []File              `json:"files,omitempty"`
	Workload            Workload            `json:"workload"`
	HealthCheck         *HealthCheck        `json:"health_check"`
	CloudInit           *CloudInitDocuments `json:"cloud_init"`
	UnixTimeNanoseconds int64               `json:"unix_time_nanoseconds"` // 0: leave the clock
	Modules             []string            `json:"modules,omitempty"`     // load order, under ModulesFolder
	Console             string              `json:"console"`
	AwaitsSettings      bool                `json:"awaits_settings"` // a template: the rest comes over the control stream

	EnvironmentFolders []string `json:"environment_folders,omitempty"` // a file a variable, on top of the workload's own
}

// Root is the root disk, found by the serial number of its virtio-blk device.
type Root struct {
	Serial   string `json:"serial"`
	Fstype   string `json:"fstype"`
	ReadOnly bool   `json:"read_only"`
}

// GuestNetwork is what the guest is told about its network; no interfaces: loopback only.
type GuestNetwork struct {
	Interfaces  []Interface         `json:"interfaces,omitempty"`
	Nameservers []string            `json:"nameservers,omitempty"`
	Search      []string            `json:"search,omitempty"`
	Hosts       map[string][]string `json:"hosts,omitempty"`
}

// Interface is one network interface, found by its MAC address. Mode is "static" or "dhcp".
type Interface struct {
	MAC       string   `json:"mac"`
	Mode      string   `json:"mode"`
	Addresses []string `json:"addresses,omitempty"` // CIDR form
	Gateway   *string  `json:"gateway"`
	Gateway6  *string  `json:"gateway6"`
	MTU       *int     `json:"mtu"`
}

// Control says how host and guest find each other. Transport is "virtio-serial" or "vsock".
type Control struct {
	Transport      string   `json:"transport"`
	PortName       string   `json:"port_name"`
	VsockPort      uint32   `json:"vsock_port"`
	HostKey        string   `json:"host_key"`
	AuthorizedKeys []string `json:"authorized_keys"`
}

// SSH is the SSH server on the network; a nil ListenPort: none.
type SSH struct {
	ListenPort     *int     `json:"listen_port"`
	AuthorizedKeys []string `json:"authorized_keys,omitempty"`
}

// Mount is a further disk.
type Mount struct {
	Serial        string `json:"serial"`
	Target        string `json:"target"`
	Fstype        string `json:"fstype"`
	ReadOnly      bool   `json:"read_only"`
	FormatIfBlank bool   `json:"format_if_blank"`
}

// HostFolders are folders of the host, whose file server is at a virtio-serial port. Mark is how it begins there.
type HostFolders struct {
	PortName string       `json:"port_name"`
	Mark     string       `json:"mark"`
	Mounts   []HostFolder `json:"mounts,omitempty"`
}

// HostFolder is one of them, known to the host by its place in the list.
type HostFolder struct {
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only"`
	IsFile   bool   `json:"is_file"`
}

// SecretPort is a vsock port of CID 2 that answers secrets, for one user only where UID is set.
type SecretPort struct {
	Port uint32  `json:"port"`
	UID  *uint32 `json:"uid"`
}

// Kinds of File that are empty folders.
const (
	FolderOfDisk   = "folder"
	FolderInMemory = "memory"
)

// File is a file of this VM that its disk never holds: the agent mounts it over Path before the workload starts. Its
// content is here, or what the host answers on a vsock port of CID 2. Of another Kind than "file" it is an empty folder.
type File struct {
	Path          string  `json:"path"`
	Kind          string  `json:"kind"`
	ContentBase64 string  `json:"content_base64"`
	SecretPort    *uint32 `json:"secret_port"`
	Mode          int     `json:"mode"`
	UID           int     `json:"uid"`
	GID           int     `json:"gid"`
}

// CloudInitDocuments are the NoCloud documents of this VM.
type CloudInitDocuments struct {
	InstanceID     string `json:"instance_id"`
	UserDataBase64 string `json:"user_data_base64"`
	MetaData       string `json:"meta_data"`
	NetworkConfig  string `json:"network_config"`
}

// Workload is the manifest's workload (contract/manifest.py). Type is http, tcp, daemon or batch. Command is what was asked
// for when the VM was made, in place of the image's CMD or of the whole Entrypoint. RunOnce: the VM ends with its processes,
// and an image's command is not started again. StopSignal, StopTimeoutSeconds and Healthcheck (in the image's form) were asked
// for when the VM was made, too, and take the place of the image's.
type Workload struct {
	Type       string            `json:"type"`
	Port       *int              `json:"port"`
	BaseURL    *string           `json:"base_url"`
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Command    []string          `json:"command,omitempty"`
	RunOnce    bool              `json:"run_once"`
	Always     bool              `json:"always"` // an image's command is started again however it ended
	Workdir    *string           `json:"workdir"`
	Env        map[string]string `json:"env,omitempty"`
	User       *string           `json:"user"`
	Groups     []uint32          `json:"groups,omitempty"` // supplementary, beside those of the user

	MessagePath string `json:"message_path"` // of the file that a command is offered for its last message
	Stdin       bool   `json:"stdin"`        // it has a standard input, which people are joined to
	StdinOnce   bool   `json:"stdin_once"`   // that ends with the first of them
	Terminal    bool   `json:"tty"`          // its input and output are one terminal

	StopSignal         string            `json:"stop_signal"`
	StopTimeoutSeconds *float64          `json:"stop_timeout_seconds"`
	Healthcheck        *ImageHealthcheck `json:"healthcheck"`
}

// EndsWithProcesses says whether the VM has done its work, with a result, when all processes have ended.
func (w Workload) EndsWithProcesses() bool { return w.Type == "batch" || w.RunOnce }

// HealthCheck is the manifest's health check: HTTP on the workload's port.
type HealthCheck struct {
	Endpoint   string `json:"endpoint"`
	IntervalMs int    `json:"interval_ms"`
	TimeoutMs  int    `json:"timeout_ms"`
	Retries    int    `json:"retries"`
}
