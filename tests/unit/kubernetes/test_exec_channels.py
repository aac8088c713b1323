# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from volant.kubernetes.exec_channels import make_failure, make_status


def test_an_end_is_a_status_with_the_code_that_kubectl_exits_with() -> None:
    assert json.loads(make_status(0))["status"] == "Success"
    failed = json.loads(make_status(7))
    assert (failed["status"], failed["reason"]) == ("Failure", "NonZeroExitCode")
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert json.loads(make_failure("InternalError", "gone"))["message"] == "gone"
