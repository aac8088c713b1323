// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"strings"
	"testing"
)

const becomeConfig = `"guest_config": {"vm_id": "7f3c", "vm_name": "web"}`

func TestParseBecome(t *testing.T) {
	become, err := ParseBecome([]byte(`{` + becomeConfig + `, "entropy_base64": "` + strings.Repeat("QUJD", 11) + `",
		"hardware_addresses": ["52:54:00:00:00:01"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if become.Settings.VMName != "web" || len(become.Entropy) != 33 || become.HardwareAddresses[0] != "52:54:00:00:00:01" {
		t.Errorf("got %+v", become)
	}
}

func TestParseBecomeWithoutSettings(t *testing.T) {
	become, err := ParseBecome([]byte(`{"unix_time_nanoseconds": 7, "entropy_base64": "` + strings.Repeat("QUJD", 11) + `"}`))
	if err != nil || become.Settings != nil || become.UnixTimeNanoseconds != 7 {
		t.Errorf("got %+v, %v", become, err)
	}
}

func TestParseBecomeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                      "not valid JSON",
		`{}`:                     "cannot use the guest_config",
		`{` + becomeConfig + `}`: "less than 32 random bytes",
		`{` + becomeConfig + `, "entropy_base64": "QUJD"}`: "less than 32 random bytes",
		`{` + becomeConfig + `, "entropy_base64": "!"}`:    "less than 32 random bytes",
	} {
		if _, err := ParseBecome([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
