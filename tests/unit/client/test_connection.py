# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from volant.client.connection import make_connector
from volant.errors import Unreachable, UsageError


def test_a_daemon_is_started_where_nobody_listens_and_only_there() -> None:
    started: list[bool] = []
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "s"

        def start() -> None:
            started.append(True)
            listener.bind(str(path))
            listener.listen()

        connect = make_connector(str(path), start)
        connect(5).close()
        connect(5).close()
        make_connector(f"unix://{path}")(5).close()
    assert started == [True]


def test_an_address_that_leads_nowhere() -> None:
    with pytest.raises(Unreachable, match=r"cannot reach volantd at http://127\.0\.0\.1:1"):
        make_connector("http://127.0.0.1:1")(5)
    with pytest.raises(UsageError, match="only http:// and unix://") as raised:
        make_connector("ssh://root@server")
    assert "ssh -L" in raised.value.resolution


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:²", "http://[::1", "http://127.0.0.1:99999", "http://a:b"]
)
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(UsageError, match="cannot use the address"):
        make_connector(address)(5)
