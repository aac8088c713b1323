// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// testdata/merges.json holds parts of our own and what upstream's mergers make of them; tests/integration/kestrel asks
// upstream's again.
func TestPartsAreMergedAsUpstreamMergesThem(t *testing.T) {
	content, err := os.ReadFile("testdata/merges.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Parts []struct {
			Config json.RawMessage
			Header string
		}
		Merged any
	}
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	for index, testCase := range cases {
		document := "Content-Type: multipart/mixed; boundary=B\n\n"
		for _, part := range testCase.Parts {
			document += "--B\nContent-Type: text/cloud-config\nMerge-Type: " + part.Header + "\n\n" + string(part.Config) + "\n"
		}
		data := parseUserData([]byte(document + "--B--\n"))
		if len(data.problems) > 0 {
			t.Errorf("case %d: %v", index, data.problems)
		}
		var merged any
		encoded, _ := json.Marshal(data.config)
		if err := json.Unmarshal(encoded, &merged); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(merged, testCase.Merged) {
			wanted, _ := json.Marshal(testCase.Merged)
			t.Errorf("case %d: %s\n got %s\nwant %s", index, testCase.Parts[len(testCase.Parts)-1].Config, encoded, wanted)
		}
	}
}

func TestAPartThatCannotBeMergedIsReportedAndTheOthersStay(t *testing.T) {
	for how, want := range map[string]string{
		"set(append)":  "no merger",
		"dict(":        "not like dict",
		"list(append)": "names no dict",
		"[5]":          "neither",
		"dict(recurse_str)+str(append)+list(append)": "cannot",
	} {
		second := fmt.Sprintf("merge_how: %s\nruncmd: text\nhostname: [a]\nlocale: b\n", how)
		first := "runcmd: [a]\nhostname: host\n"
		data := parseUserData([]byte(inParts("#cloud-config\n" + first + "--PART\n#cloud-config\n" + second)))
		if len(data.problems) != 1 || !strings.Contains(data.problems[0].Error(), want) {
			t.Errorf("%s: problems %v", how, data.problems)
		}
		if data.config["hostname"] != "host" {
			t.Errorf("%s: config %v", how, data.config)
		}
	}
}
