# SPDX-License-Identifier: Apache-2.0
"""update-lost-requests: how many requests are lost while a deployment is updated and rolled back.

Three VMs with nginx; 50 requests a second with a connection each and four clients that keep theirs, from before the
update begins until after the way back is over.
"""

from __future__ import annotations

import asyncio

from bench.deployed_web import DeployedWeb, deploy_web
from bench.http_load import Answers, load, load_kept
from bench.results import note, ratio

RATE = 50.0
KEPT_CLIENTS = 4


def main() -> None:
    with deploy_web(replicas=3) as web:
        answers = asyncio.run(update_under_load(web))
    for lost in answers.lost[:10]:
        print(f"lost: {lost}")
    print(f"{len(answers.seconds)} requests were answered")
    note("update-requests", len(answers.seconds))
    ratio("update-lost-requests", len(answers.lost), digits=0)


async def update_under_load(web: DeployedWeb) -> Answers:
    answers, stop, address = Answers(), asyncio.Event(), web.address
    loads = [
        asyncio.create_task(load([address], RATE, stop, answers)),
        *(asyncio.create_task(load_kept(address, stop, answers)) for _ in range(KEPT_CLIENTS)),
    ]
    for words in (("update", "web", "-e", "VERSION=2"), ("rollback", "web")):
        await asyncio.to_thread(web.run, "volar", "deployments", *words)
    stop.set()
    await asyncio.gather(*loads)
    return answers
