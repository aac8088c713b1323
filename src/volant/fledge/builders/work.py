# SPDX-License-Identifier: Apache-2.0
"""The two things that a builder does for fledge: make an image, and hand it over as an archive."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from volant.errors import VolantError
from volant.fledge.builders.base import Builder, BuildRequest
from volant.fledge.builders.failures import Transcript
from volant.fledge.builders.running import run_builder
from volant.fledge.builders.trial import repeat_trial
from volant.process import describe_command
from volant.progress import Monitor

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|PRIVATE|(^|_)KEY", re.IGNORECASE)


def make_image(builder: Builder, request: BuildRequest, folder: Path, monitor: Monitor) -> str:
    """Run the build, its output told line by line; returns the image's id. `folder` takes the builder's scratch.

    How steps run here was found out earlier in this boot; where a build fails and a trial step no longer runs as it
    did, the machine has changed and the build is run once more, as steps run now.
    """
    try:
        return _build(builder, request, folder, monitor)
    except VolantError:
        trial = repeat_trial(builder, request, folder, monitor)
        if trial is None or trial.isolation in (None, builder.isolation):
            raise
        monitor.say(f"{builder.name}: steps no longer run here as they did; building again ({trial.fact})")
        return _build(replace(builder, isolation=trial.isolation), request, folder, monitor)


def _build(builder: Builder, request: BuildRequest, folder: Path, monitor: Monitor) -> str:
    secrets = tuple(
        value for name, value in request.build_args.items() if SECRET_NAME.search(name) and len(value) >= 4
    )
    transcript = Transcript(secrets)

    def tell(line: str) -> None:
        if (shown := transcript.hear(line)) is not None:
            monitor.say(f"  {shown}")

    arguments = builder.build_arguments(request, folder)
    environment = {
        **request.by_environment(),
        "TMPDIR": str(folder),
        "BUILDKIT_PROGRESS": "plain",
        **_keep_loopback_off_proxies(),
    }
    code = run_builder(builder, arguments, tell, monitor, env=environment)
    if code:
        # Without what leads into our scratch folder, which is gone when somebody pastes it.
        place = arguments.index("--iidfile")
        command = describe_command([*arguments[:place], *arguments[place + 2 :]], secrets)
        raise transcript.make_error(
            request.dockerfile.name, builder.name, _say_end(code), command, is_shown=monitor.shows_lines
        )
    return (folder / "image-id").read_text().strip()


def export_image(builder: Builder, image_id: str, target: Path, monitor: Monitor) -> None:
    """Write an image of the builder's store as a docker-archive; its layers are not compressed."""
    transcript = Transcript()
    arguments = builder.export_arguments(image_id, target)
    code = run_builder(builder, arguments, transcript.keep, monitor, env={"TMPDIR": str(target.parent)})
    if code:
        raise transcript.make_export_error(builder.name, _say_end(code), describe_command(arguments))


def _say_end(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _keep_loopback_off_proxies() -> dict[str, str]:
    """Builders hand their proxy settings to RUN steps, whose download of the agent has to stay on this machine."""
    if not any(name in os.environ for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")):
        return {}
    bypass = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    bypass = f"{bypass},127.0.0.1" if bypass else "127.0.0.1"
    return {"no_proxy": bypass, "NO_PROXY": bypass}
