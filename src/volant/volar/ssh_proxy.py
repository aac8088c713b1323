# SPDX-License-Identifier: Apache-2.0
"""ProxyCommand of the OpenSSH clients: standard input and output become a stream to a guest's SSH server.

    python -m volant.volar.ssh_proxy ADDRESS VM

A module of its own and not a volar command, so that a login does not pay for parsing the command line.
"""

from __future__ import annotations

import os
import sys

from volant.errors import VolantError
from volant.volar.client import Client, quoted
from volant.volar.streams import open_stream, pump


def main() -> int:
    address, vm = sys.argv[1:3]
    client = Client(address, os.environ.get("VOLANT_TOKEN"))
    try:
        with open_stream(client, f"/vms/{quoted(vm)}/ssh/stream") as stream:
            pump(stream, sys.stdin.fileno(), sys.stdout.fileno())
    except VolantError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # The thread that reads standard input may be blocked in it: leave without waiting.
    os._exit(main())
