# SPDX-License-Identifier: Apache-2.0
"""A Dockerfile as a build sees it: stages one after the other, variables replaced, triggers of a base run.

Follows the Dockerfile reference: an ARG before the first FROM is known to FROM only, until a stage declares it again; a
build argument counts where it is declared; ENV wins over ARG; ONBUILD runs in the stage that is built from its own.
What only a build can know (what a base image from elsewhere brings) stays unknown: its variables are left as typed.
"""

from __future__ import annotations

import platform
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from volant.digits import is_whole_number
from volant.fledge.instructions import Instruction, read_instructions

_VARIABLE = re.compile(
    r"\\(.)|\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<kind>:?[-+?])(?P<word>[^{}]*))?\})"
)
_EXPANDED = frozenset(
    {"ADD", "COPY", "ENV", "EXPOSE", "FROM", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)


@dataclass
class Stage:
    """`instructions`: what runs in it, triggers of its base included, with variables replaced, FROM first.

    `folders` holds the working directory of each, "" where only the base image knows it.
    """

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    triggers: list[Instruction] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    working_folder: str = ""


def read_stages(
    instructions: Sequence[Instruction], build_args: Mapping[str, str], target_platform: str | None = None
) -> list[Stage]:
    """All stages in order."""
    given = {**platform_arguments(target_platform), **build_args}
    globals_: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            stages.append(_begin_stage(instruction, stages, globals_, given))
        elif not stages:
            if instruction.keyword == "ARG":
                globals_.update(_declare(instruction, globals_, given, {}))
        else:
            _run(stages[-1], instruction, globals_, given)
    return stages


def find_stage(stages: Sequence[Stage], name: str | None) -> Stage | None:
    """The stage that is built: that of a name or number, else the last."""
    if name is None:
        return stages[-1] if stages else None
    if is_whole_number(name) and int(name) < len(stages):
        return stages[int(name)]
    return next((stage for stage in reversed(stages) if stage.name.lower() == name.lower()), None)


def chain_of(stages: Sequence[Stage], stage: Stage | None) -> list[Stage]:
    """A stage after those it is built from, in the order in which they run."""
    chain: list[Stage] = []
    while stage is not None and stage not in chain:
        chain.append(stage)
        before = stages[: stages.index(stage)]
        stage = next(
            (other for other in reversed(before) if other.name and other.name == chain[-1].base), None
        )
    return chain[::-1]


def platform_arguments(target: str | None) -> dict[str, str]:
    """The variables that builders set by themselves, where a Dockerfile declares them."""
    machine = "arm64" if platform.machine() in ("aarch64", "arm64") else "amd64"
    found: dict[str, str] = {}
    for kind, value in (("TARGET", target or f"linux/{machine}"), ("BUILD", f"linux/{machine}")):
        system, _, rest = value.partition("/")
        architecture, _, variant = rest.partition("/")
        found |= {f"{kind}PLATFORM": value, f"{kind}OS": system}
        found |= {f"{kind}ARCH": architecture, f"{kind}VARIANT": variant}
    return found


def expand(text: str, variables: Mapping[str, str]) -> str:
    """A text with its variables replaced; those that nobody has set stay as typed."""

    def value_of(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[0]  # an escaped character, a dollar among them
        name, kind, word = match["name"] or match["braced"], match["kind"], match["word"] or ""
        value = variables.get(name)
        if kind in ("-", ":-"):
            return expand(word, variables) if value is None or (kind == ":-" and not value) else value
        if kind in ("+", ":+"):
            return expand(word, variables) if value or (kind == "+" and value is not None) else ""
        return match[0] if value is None else value

    return _VARIABLE.sub(value_of, text)


def _begin_stage(
    instruction: Instruction, stages: Sequence[Stage], globals_: Mapping[str, str], given: Mapping[str, str]
) -> Stage:
    known = {name: given[name] for name in platform_arguments(None)} | dict(globals_)
    expanded = replace(instruction, rest=expand(instruction.rest, known))
    words = expanded.rest.split()
    name = words[2] if len(words) == 3 and words[1].upper() == "AS" else ""
    stage = Stage(name, words[0] if words else "", [expanded], [""])
    base = next((other for other in reversed(stages) if other.name and other.name == stage.base), None)
    if base is not None:
        stage.variables = dict(base.variables)
        stage.working_folder = base.working_folder
        for trigger in base.triggers:
            _run(stage, trigger, globals_, given)
    elif stage.base == "scratch":
        stage.working_folder = "/"
    return stage


def _run(
    stage: Stage, instruction: Instruction, globals_: Mapping[str, str], given: Mapping[str, str]
) -> None:
    """One instruction's effect on what the next ones mean."""
    if instruction.keyword == "ONBUILD":
        for trigger in read_instructions(instruction.rest):
            stage.triggers.append(replace(trigger, line=instruction.line))
        return
    if instruction.keyword in _EXPANDED:
        flags = tuple(expand(flag, stage.variables) for flag in instruction.flags)
        instruction = replace(instruction, flags=flags, rest=expand(instruction.rest, stage.variables))
    stage.instructions.append(instruction)
    stage.folders.append(stage.working_folder)
    if instruction.keyword == "ARG":
        for name, value in _declare(instruction, globals_, given, stage.variables).items():
            stage.variables.setdefault(name, value)
    elif instruction.keyword == "ENV":
        stage.variables.update(_assignments(instruction))
    elif instruction.keyword == "WORKDIR":
        folder = posixpath.normpath(posixpath.join(stage.working_folder, instruction.rest))
        # A relative folder in a base that is not ours is unknown.
        stage.working_folder = folder if folder.startswith("/") else ""


def _declare(
    instruction: Instruction, globals_: Mapping[str, str], given: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    """What an ARG makes known: its build argument, else its default, else what is known before the first FROM."""
    found: dict[str, str] = {}
    for word in instruction.words():
        name, equals, default = word.partition("=")
        if name in given:
            found[name] = given[name]
        elif equals:
            found[name] = expand(default, {**known, **found})
        elif name in globals_:
            found[name] = globals_[name]
    return found


def _assignments(instruction: Instruction) -> dict[str, str]:
    """ENV's pairs, of both its forms: `A=1 B=2`, and `A the rest`."""
    first, _, rest = instruction.rest.partition(" ")
    if "=" not in first:
        return {first: rest.strip()} if first else {}
    return dict(word.split("=", 1) for word in instruction.words() if "=" in word)
