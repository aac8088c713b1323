// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Every golden document uses every field of its type, so a field that one side lacks or spells differently shows.
func TestGoldenDocumentsSurviveARoundTrip(t *testing.T) {
	documents := map[string]func() any{
		"guest_config":  func() any { return new(GuestConfig) },
		"image_config":  func() any { return new(ImageConfig) },
		"hello":         func() any { return new(Hello) },
		"agent_state":   func() any { return new(AgentState) },
		"log_query":     func() any { return new(LogQuery) },
		"log_entry":     func() any { return new(LogEntry) },
		"agent_stats":   func() any { return new(AgentStats) },
		"guest_minimal": func() any { return new(GuestConfig) },
	}
	folder := filepath.Join("..", "..", "..", "contract", "golden")
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) != len(documents) {
		t.Fatalf("%d golden documents, this test knows %d (%v)", len(files), len(documents), err)
	}
	for name, make := range documents {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(folder, name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			value := make()
			decoder := json.NewDecoder(bytes.NewReader(data))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(value); err != nil {
				t.Fatal(err)
			}
			if name == "guest_minimal" { // only what has no default: says nothing about the other fields
				return
			}
			again, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			var want, got any
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(again, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(want, got) {
				t.Errorf("round trip changed the document:\nwant %v\n got %v", want, got)
			}
		})
	}
}

func TestParseGuestConfigFillsDefaults(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "contract", "golden", "guest_minimal.json"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := ParseGuestConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	if config.Root == nil || config.Root.Serial != "root" || config.Root.Fstype != "ext4" {
		t.Errorf("root is %+v", config.Root)
	}
	if config.Control.PortName != ControlPortName || config.Control.Transport != "virtio-serial" {
		t.Errorf("control is %+v", config.Control)
	}
	if config.Console != "/dev/console" || config.Workload.Type != "daemon" {
		t.Errorf("console %q, workload %q", config.Console, config.Workload.Type)
	}
}

// Reading by hand and encoding/json agree on every field of the golden documents.
func TestReadingByHandMissesNothing(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "contract", "golden")
	data, err := os.ReadFile(filepath.Join(folder, "guest_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want GuestConfig
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	got, err := ParseGuestConfig(data)
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, want %+v (%v)", got, want, err)
	}
	if data, err = os.ReadFile(filepath.Join(folder, "image_config.json")); err != nil {
		t.Fatal(err)
	}
	var wantImage ImageConfig
	if err := json.Unmarshal(data, &wantImage); err != nil {
		t.Fatal(err)
	}
	gotImage, err := ParseImageConfig(data)
	if err != nil || !reflect.DeepEqual(gotImage, wantImage) {
		t.Errorf("got %+v, want %+v (%v)", gotImage, wantImage, err)
	}
}

func TestNullTurnsDefaultsOff(t *testing.T) {
	config, err := ParseGuestConfig([]byte(`{"vm_id": "a", "ssh": {"listen_port": null}}`))
	if err != nil || config.SSH.ListenPort != nil {
		t.Errorf("listen_port %v, error %v", config.SSH.ListenPort, err)
	}
	config, err = ParseGuestConfig([]byte(`{"vm_id": "a"}`))
	if err != nil || config.SSH.ListenPort == nil || *config.SSH.ListenPort != 22 {
		t.Errorf("listen_port %v, error %v", config.SSH.ListenPort, err)
	}
}

func TestAGuestThatNoHostKnowsHasAnEmptyID(t *testing.T) {
	config, err := ParseGuestConfig([]byte(`{"vm_id": "", "environment_folders": ["/a"]}`))
	if err != nil || config.VMID != "" || !reflect.DeepEqual(config.EnvironmentFolders, []string{"/a"}) {
		t.Errorf("got %+v, %v", config, err)
	}
}

func TestParseGuestConfigRefuses(t *testing.T) {
	for name, testCase := range map[string]struct{ document, reason string }{
		"not JSON":       {"{", "not valid"},
		"wrong type":     {`{"vm_id": 5}`, "vm_id"},
		"no VM":          {`{}`, "vm_id is missing"},
		"wrong in depth": {`{"vm_id": "a", "network": {"interfaces": [{"mac": 5}]}}`, "network.interfaces[0].mac is not a text"},
		"newer schema":   {`{"vm_id": "a", "schema_version": 2}`, "schema_version is 2"},
		"empty document": {``, "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseGuestConfig([]byte(testCase.document))
			if err == nil || !strings.Contains(err.Error(), testCase.reason) {
				t.Errorf("error is %v, want one that says %q", err, testCase.reason)
			}
		})
	}
}

func TestNullRootMeansRAM(t *testing.T) {
	config, err := ParseGuestConfig([]byte(`{"vm_id": "a", "root": null, "something_newer": 1}`))
	if err != nil || config.Root != nil {
		t.Errorf("root %v, error %v", config.Root, err)
	}
}
