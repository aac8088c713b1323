// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"slices"
	"time"

	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/health"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Docker's defaults for HEALTHCHECK.
const (
	imageInterval = 30 * time.Second
	imageTimeout  = 30 * time.Second
)

// ownChecks as the test of a VM's own check: those that somebody wrote, and no connect to a port in their place.
const ownChecks = "OWN"

// chooseChecks decides which checks of the workload count for the VM, beside those of entries: the VM's own, which may
// be none at all, else the config's, else the manifest's, else the image's, else a connect to the workload's port.
// Entries with checks of their own are the config's `health` too, so nothing else is asked then.
func chooseChecks(
	settings *config.Config, manifest *contract.HealthCheck, image contract.ImageConfig, workload contract.Workload,
) []config.Check {
	onlyOwn := workload.Healthcheck != nil && slices.Equal(workload.Healthcheck.Test, []string{ownChecks})
	if workload.Healthcheck != nil && !onlyOwn {
		if check := imageCheck(workload.Healthcheck); check != nil {
			return []config.Check{*check}
		}
		return nil
	}
	if len(settings.Health) > 0 {
		return settings.Health
	}
	for _, entry := range settings.Exec {
		if len(entry.Health) > 0 {
			return nil
		}
	}
	if manifest != nil && workload.Port != nil {
		return []config.Check{{
			Name:     "http",
			Kind:     config.CheckHTTP,
			Port:     *workload.Port,
			Path:     leadSlash(manifest.Endpoint),
			Interval: orDefault(time.Duration(manifest.IntervalMs)*time.Millisecond, config.DefaultInterval),
			Timeout:  orDefault(time.Duration(manifest.TimeoutMs)*time.Millisecond, config.DefaultProbeTimeout),
			Retries:  orDefault(manifest.Retries, config.DefaultRetries),
		}}
	}
	if check := imageCheck(image.Healthcheck); check != nil {
		return []config.Check{*check}
	}
	if workload.Port != nil && workload.Type != "batch" && !onlyOwn {
		return []config.Check{{
			Name: "tcp", Kind: config.CheckTCP, Port: *workload.Port,
			Interval: config.DefaultInterval, Timeout: config.DefaultProbeTimeout, Retries: config.DefaultRetries,
		}}
	}
	return nil
}

// imageCheck reads HEALTHCHECK as Docker stores it; nil for none.
func imageCheck(image *contract.ImageHealthcheck) *config.Check {
	if image == nil || len(image.Test) < 2 {
		return nil
	}
	check := &config.Check{
		Name:        "healthcheck",
		Kind:        config.CheckExec,
		Interval:    orDefault(time.Duration(image.Interval), imageInterval),
		Timeout:     orDefault(time.Duration(image.Timeout), imageTimeout),
		Retries:     orDefault(image.Retries, config.DefaultRetries),
		StartPeriod: time.Duration(image.StartPeriod),
	}
	switch image.Test[0] {
	case "CMD":
		check.Command, check.Args = image.Test[1], image.Test[2:]
	case "CMD-SHELL":
		check.Command, check.Args = "/bin/sh", []string{"-c", image.Test[1]}
	default: // NONE
		return nil
	}
	return check
}

// makeWorkloadChecks is called with the lock held.
func (s *Supervisor) makeWorkloadChecks(manifest *contract.HealthCheck) []*health.Monitor {
	checks := chooseChecks(s.settings, manifest, s.options.Image, s.options.Workload)
	monitors := make([]*health.Monitor, 0, len(checks))
	for _, check := range checks {
		options := health.Options{
			Check:   check,
			Reaper:  s.options.Reaper,
			Changed: func() { s.update(func() {}) },
			Prepare: func(command string, arguments []string) (reaper.Command, error) {
				user := firstText(s.options.Workload.User, s.options.Image.User)
				directory := firstText(s.options.Workload.Workdir, s.options.Image.WorkingDir)
				return s.prepareCheck(spec{name: check.Name, user: user, directory: directory}, command, arguments)
			},
		}
		if check.RestartOnUnhealthy {
			options.Unhealthy = func() { s.restartWorkload(check.Name) }
		}
		monitors = append(monitors, health.New(options))
	}
	return monitors
}

// restartWorkload starts every long-running process anew because the workload is not well.
func (s *Supervisor) restartWorkload(check string) {
	s.options.Logs.Say("the check %s is unhealthy: restarting the workload", check)
	for _, process := range s.processes {
		if !process.spec.runOnce {
			process.restartUnhealthy()
		}
	}
	s.update(func() { s.checksBegun = false })
}

func (s *Supervisor) workloadChecks() []*health.Monitor {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.checks
}

// describeChecks lists the checks that count first, then those of entries as "entry/check". Called with the lock held.
func (s *Supervisor) describeChecks() []contract.Check {
	var checks []contract.Check
	for _, monitor := range s.checks {
		checks = append(checks, monitor.Check())
	}
	for _, process := range s.processes {
		for _, monitor := range process.monitors {
			check := monitor.Check()
			check.Name = process.spec.name + "/" + check.Name
			checks = append(checks, check)
		}
	}
	return checks
}

func leadSlash(path string) string {
	if path == "" || path[0] != '/' {
		return "/" + path
	}
	return path
}

func orDefault[Number int | time.Duration](value, other Number) Number {
	if value <= 0 {
		return other
	}
	return value
}
