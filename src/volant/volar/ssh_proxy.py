# SPDX-License-Identifier: Apache-2.0
"""What OpenSSH runs to reach a guest: standard input and output become a stream to the guest's SSH server.

    python -m volant.volar.ssh_proxy ADDRESS VM                 ProxyCommand of `volar vms ssh`, which let the key in
    python -m volant.volar.ssh_proxy --authorize ADDRESS VM     ProxyCommand that lets this user's key in by itself
    python -m volant.volar.ssh_proxy --host-key ADDRESS VM      KnownHostsCommand: the guest's key

A module of its own and not a volar command, so that a login does not pay for parsing the command line.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    # Ctrl-C in a session reaches us too, and ssh's end is ours: neither is worth a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from volant.errors import VolantError
    from volant.volar.client import Client, quoted
    from volant.volar.contexts import find_token

    *flags, address, vm = sys.argv[1:]
    try:
        token = os.environ.get("VOLANT_TOKEN")
        if token is None and address.startswith("http"):
            token = find_token(address)
        client = Client(address, token)
        if flags:
            from volant.volar.ssh import authorize

            host_key = authorize(client, vm)["host_key"]
            if flags == ["--host-key"]:
                print(f"{vm} {host_key}")
                return 0
        from volant.client.streams import open_stream, pump

        with open_stream(client, f"/vms/{quoted(vm)}/ssh/stream") as stream:
            pump(stream, sys.stdin.fileno(), sys.stdout.fileno())
    except VolantError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # The thread that reads standard input may be blocked in it: leave without waiting.
    os._exit(status)
