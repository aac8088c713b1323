# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

from volant.volantd.vms.use import Use


async def test_a_session_is_use_until_it_ends_and_then_was() -> None:
    loop, use = asyncio.get_running_loop(), Use()
    began = loop.time()
    assert not use.is_since(began)
    with use.session(), use.session():
        assert use.is_since(loop.time() + 1000)
    assert use.is_since(began)
    assert not use.is_since(loop.time() + 1)
