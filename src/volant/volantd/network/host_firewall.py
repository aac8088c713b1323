# SPDX-License-Identifier: Apache-2.0
"""Packet filters of others on this host: what they are told so that guests on the bridge reach out, and what then
still stands in the guests' way.

A packet that any table drops is gone (an accept is no last word in nftables), so ours can let nothing through. Docker
and firewalld have a place for rules of others, and are given what guests need. Whatever else drops is somebody's own
decision: it is named, with the commands that would change it. All calls block for a moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volant.process import find_tool, run_tool

MARK = "volant"
# Docker's own chain for rules of others; it drops what it does not know where forwarding is concerned.
DOCKER_CHAIN = "DOCKER-USER"
LOCK_SECONDS = "5"
# firewalld's zone whose packets it lets pass: our own tables still stand before it.
FIREWALLD_ZONE = "trusted"
UFW_CHAIN = "ufw-user-forward"
# Tables that the older kind of iptables has in use; nft does not see them.
LEGACY_TABLES = Path("/proc/net/ip_tables_names")


@dataclass(frozen=True, slots=True)
class Obstacle:
    fact: str
    mend: str


def pass_firewalls(bridge: str) -> None:
    """Tell those that have a place for it; harmless where it is done already."""
    pass_docker(bridge)
    _pass_firewalld(bridge)


def leave_firewalls(bridge: str) -> None:
    """Take it all back; harmless where it is gone."""
    _leave_docker(bridge)
    if _has_firewalld():
        for options in _list_zone_options():
            if _ask_firewalld(*options, f"--query-interface={bridge}"):
                run_tool(["firewall-cmd", *options, f"--remove-interface={bridge}"])


def list_obstacles(bridge: str) -> list[Obstacle]:
    """What drops guests' packets by its policy and knows nothing of the bridge. Needs CAP_NET_ADMIN."""
    listed = run_tool(["nft", "--json", "list", "ruleset"], what="list this host's packet filters").stdout
    found = find_dropping_chains(json.loads(listed)["nftables"], bridge)
    if (legacy := find_tool("iptables-legacy")) and LEGACY_TABLES.exists() and LEGACY_TABLES.read_text():
        found += find_dropping_legacy_chains(run_tool([legacy, "-S"]).stdout, bridge)
    if _has_firewalld() and not _ask_firewalld(*_list_zone_options()[0], f"--query-interface={bridge}"):
        fact = f"firewalld has {bridge} in no zone that lets guests through"
        found.append(Obstacle(fact, "volar setup network"))
    return found


def find_dropping_chains(listed: list[dict[str, Any]], bridge: str) -> list[Obstacle]:
    """`listed`: what `nft --json` prints (libnftables-json(5))."""
    objects = [(kind, value) for entry in listed for kind, value in entry.items()]
    rules = [rule for kind, rule in objects if kind == "rule"]
    names = {chain["name"] for kind, chain in objects if kind == "chain"}
    knowing = {(rule["family"], rule["table"]) for rule in rules if bridge in json.dumps(rule["expr"])}
    found = []
    for kind, chain in objects:
        if kind != "chain" or chain.get("policy") != "drop" or chain.get("hook") not in ("forward", "input"):
            continue
        table = chain["family"], chain["table"]
        if table in knowing or chain["family"] not in ("ip", "ip6", "inet"):
            continue
        place = f"{chain['family']} {chain['table']} {chain['name']}"
        what = "what guests send beyond this host" if chain["hook"] == "forward" else "guests' DNS and DHCP"
        found.append(Obstacle(f"{place} drops {what}", _make_mend(chain, place, bridge, names)))
    return found


def find_dropping_legacy_chains(listed: str, bridge: str) -> list[Obstacle]:
    """`listed`: what `iptables-legacy -S` prints."""
    if "-P FORWARD DROP" not in listed.splitlines() or f" {bridge} " in listed:
        return []
    fact = "iptables-legacy's FORWARD drops what guests send beyond this host"
    return [Obstacle(fact, _make_iptables_mend("iptables-legacy", "FORWARD", bridge))]


def _make_mend(chain: dict[str, Any], place: str, bridge: str, names: set[str]) -> str:
    """What a person would type. All that comes in from the bridge may pass: our own tables stand before and after."""
    if UFW_CHAIN in names:
        return f"ufw allow in on {bridge} && ufw route allow in on {bridge}"
    if chain["name"].isupper():
        program = "ip6tables" if chain["family"] == "ip6" else "iptables"
        return _make_iptables_mend(program, chain["name"], bridge)
    rules = f"insert rule {place} iifname {bridge} accept"
    if chain["hook"] == "forward":
        rules += f"; insert rule {place} oifname {bridge} ct state established,related accept"
    return f"nft '{rules}'"


def _make_iptables_mend(program: str, chain: str, bridge: str) -> str:
    mend = f"{program} -I {chain} -i {bridge} -j ACCEPT"
    if chain == "FORWARD":
        answers = "-m conntrack --ctstate RELATED,ESTABLISHED"
        mend += f" && {program} -I {chain} -o {bridge} {answers} -j ACCEPT"
    return mend


def pass_docker(bridge: str) -> None:
    """Where Docker drops what is forwarded, let guests out and their answers in; harmless where it is done already."""
    for program in _list_docker_programs():
        for rule in _list_docker_rules(bridge):
            if not _ask_iptables(program, "-C", DOCKER_CHAIN, *rule):
                _run_iptables(program, "-I", DOCKER_CHAIN, *rule)


def _leave_docker(bridge: str) -> None:
    for program in _list_docker_programs():
        for rule in _list_docker_rules(bridge):
            while _ask_iptables(program, "-C", DOCKER_CHAIN, *rule):
                _run_iptables(program, "-D", DOCKER_CHAIN, *rule)


def _list_docker_programs() -> list[str]:
    """Docker's rules are iptables' and may be of its older kind: so its own programs, which know which."""
    return [
        program
        for program in ("iptables", "ip6tables")
        if find_tool(program) is not None and _ask_iptables(program, "-n", "-L", DOCKER_CHAIN)
    ]


def _list_docker_rules(bridge: str) -> list[list[str]]:
    mark = ["-m", "comment", "--comment", MARK, "-j", "ACCEPT"]
    answers = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
    # The last is for VM to VM, where bridged frames cross the IP rules.
    return [
        ["-i", bridge, "!", "-o", bridge, *mark],
        ["-o", bridge, *answers, *mark],
        ["-i", bridge, "-o", bridge, *mark],
    ]


def _ask_iptables(program: str, *arguments: str) -> bool:
    command = [program, "-w", LOCK_SECONDS, *arguments]
    return run_tool(command, accepted_exit_codes=range(256)).returncode == 0


def _run_iptables(program: str, *arguments: str) -> None:
    run_tool([program, "-w", LOCK_SECONDS, *arguments])


def _pass_firewalld(bridge: str) -> None:
    """Now and after its next start: `--permanent` alone would wait for a reload, in which others lose their rules."""
    if not _has_firewalld():
        return
    for options in _list_zone_options():
        if not _ask_firewalld(*options, f"--query-interface={bridge}"):
            run_tool(["firewall-cmd", *options, f"--change-interface={bridge}"])


def _list_zone_options() -> list[list[str]]:
    zone = f"--zone={FIREWALLD_ZONE}"
    return [[zone], ["--permanent", zone]]


def _has_firewalld() -> bool:
    return find_tool("firewall-cmd") is not None and _ask_firewalld("--state")


def _ask_firewalld(*question: str) -> bool:
    return run_tool(["firewall-cmd", *question], accepted_exit_codes=range(256)).returncode == 0
