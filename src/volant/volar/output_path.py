# SPDX-License-Identifier: Apache-2.0
"""The file that a command writes an archive to."""

from __future__ import annotations

from typing import Any

import click

from volant.volar.names import Parameter


class OutputPath(Parameter):
    """A file that can be written, or "-" for standard output; what is neither is told before the daemon is asked."""

    name = "file"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        from volant.output_file import find_output, read_output

        return "-" if value == "-" else str(find_output(read_output(str(value))))


OUTPUT_PATH = OutputPath()
