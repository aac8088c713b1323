// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/contract"
)

// What was asked for when the VM was made takes the place of what its image says.
func TestWhatWasAskedForTakesTheImagesPlace(t *testing.T) {
	image := contract.ImageConfig{
		Cmd: []string{"/bin/server"}, StopSignal: "SIGQUIT",
		Healthcheck: &contract.ImageHealthcheck{Test: []string{"CMD", "/bin/true"}},
	}
	asked := contract.Workload{
		Type: "http", Port: new(80), StopSignal: "SIGINT", StopTimeoutSeconds: new(1.5),
		Healthcheck: &contract.ImageHealthcheck{Test: []string{"CMD-SHELL", "ask"}, Interval: int64(time.Second), Retries: 7},
	}
	specs, err := makeSpecs(&config.Config{}, image, asked, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if specs[0].stopSignal != unix.SIGINT || specs[0].stopTimeout != 1500*time.Millisecond {
		t.Errorf("stopped by %v after %v", specs[0].stopSignal, specs[0].stopTimeout)
	}
	manifest := &contract.HealthCheck{Endpoint: "/"}
	checks := chooseChecks(&config.Config{}, manifest, image, asked)
	if len(checks) != 1 || checks[0].Args[1] != "ask" || checks[0].Retries != 7 || checks[0].Interval != time.Second {
		t.Errorf("checks are %+v", checks)
	}
	asked.Healthcheck.Test = []string{"NONE"}
	if checks := chooseChecks(&config.Config{}, manifest, image, asked); len(checks) != 0 {
		t.Errorf("none were asked for: %+v", checks)
	}
	asked.Healthcheck.Test = []string{"OWN"}
	if checks := chooseChecks(&config.Config{}, nil, image, asked); len(checks) != 1 || checks[0].Name != "healthcheck" {
		t.Errorf("of those that somebody wrote: %+v", checks)
	}
	if checks := chooseChecks(&config.Config{}, nil, contract.ImageConfig{}, asked); len(checks) != 0 {
		t.Errorf("nobody has asked to connect to the port: %+v", checks)
	}
	asked.StopSignal = "SIGNOTHING"
	if _, err := makeSpecs(&config.Config{}, image, asked, t.TempDir()); err == nil {
		t.Error("a signal that there is not is taken")
	}
}
