// SPDX-License-Identifier: Apache-2.0

package contract

// ImageConfig is /etc/kestrel/image.json: what the OCI image says about running it (contract/image_config.py).
type ImageConfig struct {
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Env          []string          `json:"env,omitempty"` // NAME=value
	WorkingDir   string            `json:"working_dir"`
	User         string            `json:"user"`
	StopSignal   string            `json:"stop_signal"`
	ExposedPorts []string          `json:"exposed_ports,omitempty"`
	Volumes      []string          `json:"volumes,omitempty"`
	Healthcheck  *ImageHealthcheck `json:"healthcheck"`
	Architecture string            `json:"architecture"`
}

// ImageHealthcheck is the image's HEALTHCHECK; times in nanoseconds, 0: default.
type ImageHealthcheck struct {
	Test        []string `json:"test"`
	Interval    int64    `json:"interval"`
	Timeout     int64    `json:"timeout"`
	StartPeriod int64    `json:"start_period"`
	Retries     int      `json:"retries"`
}
