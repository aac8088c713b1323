// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"slices"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/contract"
)

func TestACommandThatWasAskedForReplacesWhatDockerSays(t *testing.T) {
	image := contract.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}}
	for _, test := range []struct {
		name     string
		workload contract.Workload
		want     []string
	}{
		{"nothing", contract.Workload{}, []string{"/entry", "serve"}},
		{"a command", contract.Workload{Command: []string{"check", "-v"}}, []string{"/entry", "check", "-v"}},
		{"an entrypoint", contract.Workload{Entrypoint: []string{"/other"}}, []string{"/other"}},
		{"both", contract.Workload{Entrypoint: []string{"/other"}, Command: []string{"sh"}}, []string{"sh"}},
	} {
		specs, err := makeSpecs(&config.Config{}, image, test.workload, "")
		if err != nil || len(specs) != 1 || !slices.Equal(specs[0].command, test.want) {
			t.Errorf("%s: %v, %v", test.name, specs, err)
		}
	}
}

func TestACommandIsNoUseWhereTheConfigSaysWhatRuns(t *testing.T) {
	settings := &config.Config{Exec: []config.Exec{{Name: "web", Command: "/web"}}}
	if _, err := makeSpecs(settings, contract.ImageConfig{}, contract.Workload{Command: []string{"sh"}}, ""); err == nil {
		t.Fatal("the command was dropped silently")
	}
}

func TestAnImagesCommandThatRunsOnceIsNotStartedAgain(t *testing.T) {
	image, once := contract.ImageConfig{Cmd: []string{"serve"}}, contract.Workload{Type: "http", RunOnce: true}
	specs, err := makeSpecs(&config.Config{}, image, once, "")
	if err != nil || specs[0].restart != config.RestartNever {
		t.Errorf("%v, %v", specs, err)
	}
	// What a config says of its processes stays as it says.
	specs, err = makeSpecs(&config.Config{Exec: []config.Exec{{Name: "web", Command: "/web"}}}, image, once, "")
	if err != nil || specs[0].restart != config.RestartOnFailure {
		t.Errorf("%v, %v", specs, err)
	}
}

func TestAnImagesCommandIsStartedAgainForEverWhereThatIsAskedFor(t *testing.T) {
	image := contract.ImageConfig{Cmd: []string{"serve"}}
	for _, each := range []struct {
		workload contract.Workload
		entries  []config.Exec
		restart  config.Restart
	}{
		{contract.Workload{Type: "http", Always: true}, nil, config.RestartAlways},
		{contract.Workload{Type: "http", Always: true, RunOnce: true}, nil, config.RestartNever},
		{contract.Workload{Type: "batch", Always: true}, nil, config.RestartNever},
		{contract.Workload{Type: "http", Always: true}, []config.Exec{{Name: "web", Command: "/web"}}, config.RestartOnFailure},
	} {
		specs, err := makeSpecs(&config.Config{Exec: each.entries}, image, each.workload, "")
		if err != nil || specs[0].restart != each.restart {
			t.Errorf("%+v: %v, %v", each.workload, specs, err)
		}
	}
}
