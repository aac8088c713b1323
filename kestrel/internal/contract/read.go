// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// The two documents that are read before the workload starts are taken apart by hand. encoding/json spends 25 ms on
// them under emulation, most of it on code that runs once; this spends 2. The tests hold it to encoding/json's result.

// ParseGuestConfig reads guest.json and fills in the defaults of contract/guest_config.py for keys left out.
func ParseGuestConfig(data []byte) (*GuestConfig, error) {
	if !gjson.ValidBytes(data) {
		return nil, fmt.Errorf("it is not valid JSON: %w", explainJSON(data))
	}
	return readGuestConfig(gjson.ParseBytes(data))
}

// readGuestConfig reads it out of a document that is valid.
func readGuestConfig(value gjson.Result) (*GuestConfig, error) {
	reader := &reader{}
	document := section{reader: reader, value: value}
	config := document.guestConfig()
	switch {
	case reader.problem != nil:
		return nil, reader.problem
	case config.SchemaVersion != 1:
		return nil, fmt.Errorf("its schema_version is %d, this agent knows 1", config.SchemaVersion)
	case !document.get("vm_id").value.Exists():
		return nil, errors.New("it names no VM (vm_id is missing)")
	}
	return config, nil
}

// ParseImageConfig reads /etc/kestrel/image.json.
func ParseImageConfig(data []byte) (ImageConfig, error) {
	if !gjson.ValidBytes(data) {
		return ImageConfig{}, fmt.Errorf("it is not valid JSON: %w", explainJSON(data))
	}
	reader := &reader{}
	config := section{reader: reader, value: gjson.ParseBytes(data)}.imageConfig()
	return config, reader.problem
}

func explainJSON(data []byte) error {
	var anything any
	if err := json.Unmarshal(data, &anything); err != nil {
		return err
	}
	return errors.New("not valid")
}

// reader keeps the first wrong type.
type reader struct{ problem error }

// section is one value of the document; above and key lead to it.
type section struct {
	reader *reader
	above  *section
	key    string
	value  gjson.Result
	fields []field // of an object, read once
}

type field struct {
	key   string
	value gjson.Result
}

func (s *section) get(key string) section {
	if s.fields == nil {
		s.value.ForEach(func(name, value gjson.Result) bool {
			s.fields = append(s.fields, field{name.Str, value})
			return true
		})
	}
	for _, field := range s.fields {
		if field.key == key {
			return section{reader: s.reader, above: s, key: key, value: field.value}
		}
	}
	return section{reader: s.reader, above: s, key: key}
}

func (s *section) path() string {
	if s.above == nil || s.above.above == nil {
		return s.key
	}
	if strings.HasPrefix(s.key, "[") {
		return s.above.path() + s.key
	}
	return s.above.path() + "." + s.key
}

// is tells whether there is a value of the wanted kind; absent and null are not, anything else is a problem.
func (s section) is(wanted string, matches bool) bool {
	if !s.value.Exists() || s.value.Type == gjson.Null {
		return false
	}
	if !matches && s.reader.problem == nil {
		s.reader.problem = fmt.Errorf("its %s is not %s", s.path(), wanted)
	}
	return matches
}

func (s section) text(otherwise string) string {
	if s.is("a text", s.value.Type == gjson.String) {
		return s.value.Str
	}
	return otherwise
}

func (s section) number(otherwise int64) int64 {
	if s.is("a number", s.value.Type == gjson.Number) {
		return s.value.Int()
	}
	return otherwise
}

func (s section) boolean() bool { return s.is("true or false", s.value.IsBool()) && s.value.Bool() }

func (s section) optionalText() *string {
	if !s.is("a text", s.value.Type == gjson.String) {
		return nil
	}
	return new(s.value.Str)
}

func (s section) optionalInt() *int {
	if !s.is("a number", s.value.Type == gjson.Number) {
		return nil
	}
	return new(int(s.value.Int()))
}

func (s section) optionalFloat() *float64 {
	if !s.is("a number", s.value.Type == gjson.Number) {
		return nil
	}
	return new(s.value.Num)
}

func (s section) each(call func(section)) {
	if s.is("a list", s.value.IsArray()) {
		for index, value := range s.value.Array() {
			call(section{reader: s.reader, above: &s, key: "[" + strconv.Itoa(index) + "]", value: value})
		}
	}
}

func (s section) texts() (texts []string) {
	s.each(func(item section) { texts = append(texts, item.text("")) })
	return texts
}

func (s section) table(call func(name string, value section)) {
	if s.is("an object", s.value.IsObject()) {
		s.value.ForEach(func(name, value gjson.Result) bool {
			call(name.Str, section{reader: s.reader, above: &s, key: name.Str, value: value})
			return true
		})
	}
}

func (s section) present() bool { return s.is("an object", s.value.IsObject()) }

func (s section) guestConfig() *GuestConfig {
	config := &GuestConfig{
		SchemaVersion:       int(s.get("schema_version").number(1)),
		VMID:                s.get("vm_id").text(""),
		VMName:              s.get("vm_name").text(""),
		Root:                s.get("root").root(),
		Network:             s.get("network").network(),
		Control:             s.get("control").control(),
		SSH:                 s.get("ssh").ssh(),
		Workload:            s.get("workload").workload(),
		HealthCheck:         s.get("health_check").healthCheck(),
		CloudInit:           s.get("cloud_init").cloudInit(),
		UnixTimeNanoseconds: s.get("unix_time_nanoseconds").number(0),
		Modules:             s.get("modules").texts(),
		Console:             s.get("console").text("/dev/console"),
		AwaitsSettings:      s.get("awaits_settings").boolean(),
		EnvironmentFolders:  s.get("environment_folders").texts(),
	}
	config.Hostname = s.get("hostname").text(config.VMName)
	s.get("mounts").each(func(item section) {
		config.Mounts = append(config.Mounts, Mount{
			Serial:        item.get("serial").text(""),
			Target:        item.get("target").text(""),
			Fstype:        item.get("fstype").text("ext4"),
			ReadOnly:      item.get("read_only").boolean(),
			FormatIfBlank: item.get("format_if_blank").boolean(),
		})
	})
	config.Folders = s.get("folders").folders()
	s.get("secrets").each(func(item section) {
		secret := SecretPort{Port: uint32(item.get("port").number(9000))}
		if uid := item.get("uid").optionalInt(); uid != nil {
			secret.UID = new(uint32(*uid))
		}
		config.Secrets = append(config.Secrets, secret)
	})
	s.get("files").each(func(item section) { config.Files = append(config.Files, item.file()) })
	return config
}

func (s section) file() File {
	file := File{
		Path:          s.get("path").text(""),
		Kind:          s.get("kind").text("file"),
		ContentBase64: s.get("content_base64").text(""),
		Mode:          int(s.get("mode").number(0o644)),
		UID:           int(s.get("uid").number(0)),
		GID:           int(s.get("gid").number(0)),
	}
	if port := s.get("secret_port").optionalInt(); port != nil {
		file.SecretPort = new(uint32(*port))
	}
	return file
}

func (s section) folders() *HostFolders {
	if !s.present() {
		return nil
	}
	folders := &HostFolders{PortName: s.get("port_name").text(FoldersPortName), Mark: s.get("mark").text("")}
	s.get("mounts").each(func(item section) {
		folders.Mounts = append(folders.Mounts, HostFolder{
			Target:   item.get("target").text(""),
			ReadOnly: item.get("read_only").boolean(),
			IsFile:   item.get("is_file").boolean(),
		})
	})
	return folders
}

// root: null says that there is none, a missing key that there is the usual one.
func (s section) root() *Root {
	if s.value.Exists() && !s.present() {
		return nil
	}
	return &Root{
		Serial:   s.get("serial").text("root"),
		Fstype:   s.get("fstype").text("ext4"),
		ReadOnly: s.get("read_only").boolean(),
	}
}

func (s section) network() GuestNetwork {
	network := GuestNetwork{Nameservers: s.get("nameservers").texts(), Search: s.get("search").texts()}
	s.get("interfaces").each(func(item section) {
		network.Interfaces = append(network.Interfaces, Interface{
			MAC:       item.get("mac").text(""),
			Mode:      item.get("mode").text(""),
			Addresses: item.get("addresses").texts(),
			Gateway:   item.get("gateway").optionalText(),
			Gateway6:  item.get("gateway6").optionalText(),
			MTU:       item.get("mtu").optionalInt(),
		})
	})
	s.get("hosts").table(func(address string, names section) {
		if network.Hosts == nil {
			network.Hosts = make(map[string][]string)
		}
		network.Hosts[address] = names.texts()
	})
	return network
}

func (s section) control() Control {
	return Control{
		Transport:      s.get("transport").text("virtio-serial"),
		PortName:       s.get("port_name").text(ControlPortName),
		VsockPort:      uint32(s.get("vsock_port").number(1024)),
		HostKey:        s.get("host_key").text(""),
		AuthorizedKeys: s.get("authorized_keys").texts(),
	}
}

// ssh: listen_port null says no, a missing key says 22.
func (s section) ssh() SSH {
	port := s.get("listen_port")
	ssh := SSH{ListenPort: port.optionalInt(), AuthorizedKeys: s.get("authorized_keys").texts()}
	if !port.value.Exists() {
		ssh.ListenPort = new(22)
	}
	return ssh
}

func (s section) workload() Workload {
	workload := Workload{
		Type:       s.get("type").text("daemon"),
		Port:       s.get("port").optionalInt(),
		BaseURL:    s.get("base_url").optionalText(),
		Entrypoint: s.get("entrypoint").texts(),
		Command:    s.get("command").texts(),
		RunOnce:    s.get("run_once").boolean(),
		Always:     s.get("always").boolean(),
		Workdir:    s.get("workdir").optionalText(),
		User:       s.get("user").optionalText(),

		MessagePath: s.get("message_path").text(""),
		Stdin:       s.get("stdin").boolean(),
		StdinOnce:   s.get("stdin_once").boolean(),
		Terminal:    s.get("tty").boolean(),

		StopSignal:         s.get("stop_signal").text(""),
		StopTimeoutSeconds: s.get("stop_timeout_seconds").optionalFloat(),
		Healthcheck:        s.get("healthcheck").imageHealthcheck(),
	}
	s.get("groups").each(func(item section) { workload.Groups = append(workload.Groups, uint32(item.number(0))) })
	s.get("env").table(func(name string, value section) {
		if workload.Env == nil {
			workload.Env = make(map[string]string)
		}
		workload.Env[name] = value.text("")
	})
	return workload
}

func (s section) healthCheck() *HealthCheck {
	if !s.present() {
		return nil
	}
	return &HealthCheck{
		Endpoint:   s.get("endpoint").text(""),
		IntervalMs: int(s.get("interval_ms").number(10_000)),
		TimeoutMs:  int(s.get("timeout_ms").number(2_000)),
		Retries:    int(s.get("retries").number(3)),
	}
}

func (s section) cloudInit() *CloudInitDocuments {
	if !s.present() {
		return nil
	}
	return &CloudInitDocuments{
		InstanceID:     s.get("instance_id").text(""),
		UserDataBase64: s.get("user_data_base64").text(""),
		MetaData:       s.get("meta_data").text(""),
		NetworkConfig:  s.get("network_config").text(""),
	}
}

func (s section) imageConfig() ImageConfig {
	config := ImageConfig{
		Entrypoint:   s.get("entrypoint").texts(),
		Cmd:          s.get("cmd").texts(),
		Env:          s.get("env").texts(),
		WorkingDir:   s.get("working_dir").text(""),
		User:         s.get("user").text(""),
		StopSignal:   s.get("stop_signal").text(""),
		ExposedPorts: s.get("exposed_ports").texts(),
		Volumes:      s.get("volumes").texts(),
		Architecture: s.get("architecture").text("amd64"),
	}
	config.Healthcheck = s.get("healthcheck").imageHealthcheck()
	return config
}

func (s section) imageHealthcheck() *ImageHealthcheck {
	if !s.present() {
		return nil
	}
	return &ImageHealthcheck{
		Test:        s.get("test").texts(),
		Interval:    s.get("interval").number(0),
		Timeout:     s.get("timeout").number(0),
		StartPeriod: s.get("start_period").number(0),
		Retries:     int(s.get("retries").number(0)),
	}
}
