# SPDX-License-Identifier: Apache-2.0
"""docker, podman and buildah behind one interface: build a Dockerfile, hand over the image as an archive.

A builder is taken when it *runs a step*, not when its program is on PATH or answers: that is found out by letting
it run one (trial.py). The three differ in little, and docker.py and containers.py are all that knows where.
"""

from volant.fledge.builders.base import Builder, BuilderName, BuildRequest
from volant.fledge.builders.choose import find_builder
from volant.fledge.builders.work import export_image, make_image

__all__ = ["BuildRequest", "Builder", "BuilderName", "export_image", "find_builder", "make_image"]
