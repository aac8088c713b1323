# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from volant.fledge.builders.failures import Transcript

BUILDKIT = """\
#6 [2/2] RUN echo the reason; exit 7
#6 0.112 the reason
#6 ERROR: process "/bin/sh -c echo the reason; exit 7" did not complete successfully: exit code: 7
------
 > [2/2] RUN echo the reason; exit 7:
0.112 the reason
------
Dockerfile:2
--------------------
   1 |     FROM x
   2 | >>> RUN echo the reason; exit 7
--------------------
ERROR: failed to solve: process "/bin/sh -c echo the reason; exit 7" did not complete successfully: exit code: 7
"""


def test_dockers_second_copy_of_a_failed_step_is_kept_back() -> None:
    transcript = Transcript()
    shown = [line for line in map(transcript.hear, BUILDKIT.splitlines()) if line is not None]
    assert shown == ["#6 [2/2] RUN echo the reason; exit 7", "#6 0.112 the reason"]
    assert transcript.find_failed_step() == "step 'RUN echo the reason; exit 7' failed (exit code: 7)"


def test_a_ruler_that_a_step_prints_is_the_steps_own() -> None:
    transcript = Transcript()
    lines = ["STEP 2/2: RUN make report", "------", "passed: 3", "------"]
    assert [transcript.hear(line) for line in lines] == lines


def test_what_is_not_understood_is_told_whole() -> None:
    transcript = Transcript()
    assert transcript.hear("Error: unknown flag: --what") == "Error: unknown flag: --what"
    error = transcript.make_error("Dockerfile", "podman", "exit code 125", "podman build", is_shown=True)
    assert error.what == "cannot build Dockerfile: podman ended with exit code 125"
