# SPDX-License-Identifier: Apache-2.0
"""`fledge validate`: everything that is wrong with a folder, at once, before anything is built.

The recipe is checked by its own model, the kestrel config by the agent that will read it, the Dockerfile
for what makes a plugin surprising: a base that moves, files that are not there, ports that do not agree.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volant.contract.image_config import KESTREL_CONFIG_PATH
from volant.digits import is_whole_number
from volant.errors import NotFound
from volant.fledge.copied_files import BuildContext, find_copied, find_mapped
from volant.fledge.guest import (
    INIT_ADVICE,
    NOT_CHECKED,
    WANTS_TO_BE_INIT,
    check_kestrel_config,
    is_unknown_init,
)
from volant.fledge.ignore_file import read_ignore_file
from volant.fledge.instructions import KEYWORDS, Instruction, read_instructions
from volant.fledge.order import RECIPE_NAME, TRANSPORT
from volant.fledge.problems import Problem
from volant.fledge.recipe import Recipe, find_line, read_recipe
from volant.fledge.stages import chain_of, find_stage, read_stages
from volant.output_file import show_path

# What people call the agent's config before it is in the image.
CONFIG_NAMES = ("kestrel-config.yaml", "kestrel.yaml", "kestrel-config.yml")


@dataclass
class _Findings:
    """What one part of the folder says that another part must agree with."""

    problems: list[Problem] = field(default_factory=list)
    exposed: dict[int, int] = field(default_factory=dict)
    # Where the Dockerfile says which program is run, and that program.
    command: tuple[int, str] | None = None
    config: Path | None = None

    def error(self, file: Path, line: int, message: str, resolution: str = "") -> None:
        self.problems.append(Problem(show_path(file), line, 0, message, resolution))

    def warn(self, file: Path, line: int, message: str, resolution: str = "") -> None:
        self.problems.append(Problem(show_path(file), line, 0, message, resolution, "warning"))


def validate_folder(folder: Path, config: str | None = None) -> list[Problem]:
    """All problems of a folder's recipe, Dockerfile and kestrel config, in the order of files and lines."""
    found = _Findings()
    recipe_path = folder / (config or RECIPE_NAME)
    recipe: Recipe | None = None
    if recipe_path.is_file() or config is not None:
        recipe, problems = read_recipe(recipe_path)
        found.problems += problems
    dockerfile = _find_dockerfile(recipe, recipe_path, folder)
    if dockerfile is None and not recipe_path.is_file():
        raise NotFound(
            f"cannot validate {folder.absolute()}: neither {RECIPE_NAME} nor a Dockerfile is there",
            resolution="run 'fledge init' for a skeleton",
        )
    if recipe is not None:
        for local, guest in recipe.mappings.items():
            mapped = find_mapped(recipe_path.parent / local, guest, KESTREL_CONFIG_PATH)
            found.config = found.config or mapped
    if dockerfile is not None:
        _check_dockerfile(found, dockerfile, recipe, recipe_path)
    elif recipe is not None and recipe.plugin.runtime.build_script is not None:
        _check_build_script(found, recipe_path, recipe_path.parent / recipe.plugin.runtime.build_script)
    _check_command(found, recipe, recipe_path, dockerfile)
    health = _check_kestrel_config(found)
    _check_ports(found, recipe, recipe_path, dockerfile, health)
    return sorted(found.problems)


def _find_dockerfile(recipe: Recipe | None, recipe_path: Path, folder: Path) -> Path | None:
    """The Dockerfile that would be built; None where the source is something else."""
    runtime = recipe.plugin.runtime if recipe else None
    if runtime and runtime.build_script:
        return None
    if runtime and runtime.source:
        path = recipe_path.parent / runtime.source
        if not path.is_file() and (TRANSPORT.match(runtime.source) or ":" in runtime.source):
            return None
        return path
    path = folder / "Dockerfile"
    if path.is_file():
        return path
    wanted = recipe is not None and not (recipe.plugin.runtime.type == "initramfs" and recipe.mappings)
    return path if wanted else None


# -- Dockerfile ------------------------------------------------------------------------------------------


def _check_dockerfile(found: _Findings, path: Path, recipe: Recipe | None, recipe_path: Path) -> None:
    try:
        instructions = read_instructions(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        line = find_line(_read(recipe_path), ("plugin", "runtime", "source"))
        found.error(recipe_path, line, f"the Dockerfile {show_path(path)} cannot be read", "correct `source`")
        return
    if any("\0" in instruction.rest for instruction in instructions):
        found.error(path, 0, "it holds a NUL character, which no builder takes", "write it as plain text")
        return
    runtime = recipe.plugin.runtime if recipe else None
    context = recipe_path.parent / runtime.context if runtime and runtime.context else path.parent
    _check_keywords(found, path, instructions)
    names = _check_bases(found, path, instructions)
    stages = read_stages(
        instructions, runtime.build_args if runtime else {}, runtime.platform if runtime else None
    )
    final = find_stage(stages, runtime.target if runtime else None)
    if runtime and runtime.target and final is None:
        line = find_line(_read(recipe_path), ("plugin", "runtime", "target"))
        known = ", ".join(names) or "none has a name"
        found.error(
            recipe_path, line, f"no stage {runtime.target!r} in {show_path(path)}", f"stages: {known}"
        )
    sent = BuildContext(context, read_ignore_file(path, context))
    for instruction in (instruction for stage in stages for instruction in stage.instructions):
        if instruction.keyword in ("COPY", "ADD"):
            _check_copy(found, path, sent, instruction, names)
    said = [instruction for stage in chain_of(stages, final) for instruction in stage.instructions]
    found.command = _find_command(said)
    for instruction in said:
        if instruction.keyword == "EXPOSE":
            for number in re.findall(r"\b([0-9]{1,18})(?:/tcp)?(?=\s|$)", instruction.rest):
                found.exposed[int(number)] = instruction.line
    # Mappings lie on top of the image, and what a stage copies over what its base has.
    config = find_copied(sent, stages, final, KESTREL_CONFIG_PATH) if final else None
    found.config = found.config or config
    if found.config is None:
        chain = chain_of(stages, final)
        _look_for_config(found, path, chain[0].instructions[0].line if chain else 0, context)


def _check_keywords(found: _Findings, path: Path, instructions: Sequence[Instruction]) -> None:
    for instruction in instructions:
        if instruction.keyword not in KEYWORDS:
            near = difflib.get_close_matches(instruction.keyword, KEYWORDS, n=1)
            advice = f"did you mean {near[0]}?" if near else "see the Dockerfile reference"
            found.error(path, instruction.line, f"unknown instruction {instruction.keyword}", advice)
    before = [instruction for instruction in instructions if instruction.keyword != "ARG"]
    if not before or before[0].keyword != "FROM":
        line = before[0].line if before else 1
        found.error(
            path, line, "a Dockerfile begins with FROM", "name a base image, e.g. FROM debian:bookworm-slim"
        )


def _check_bases(found: _Findings, path: Path, instructions: Sequence[Instruction]) -> list[str]:
    """Warn of bases that are another image tomorrow; returns the names of the stages."""
    stages: list[str] = []
    for instruction in instructions:
        if instruction.keyword != "FROM":
            continue
        words = instruction.rest.split()
        base = words[0] if words else ""
        last = base.rpartition("/")[2]
        if not base:
            found.error(path, instruction.line, "FROM names no image", "e.g. FROM debian:bookworm-slim")
        elif base in stages or base == "scratch" or "$" in base or "@" in base:
            pass
        elif ":" not in last:
            found.warn(
                path,
                instruction.line,
                f"the base {base} is not pinned",
                f"add a tag or a digest, e.g. {base}:1.2",
            )
        elif last.endswith(":latest"):
            found.warn(
                path,
                instruction.line,
                f"the base {base} is another image tomorrow",
                "name a version in its place",
            )
        if len(words) == 3 and words[1].upper() == "AS":
            stages.append(words[2])
        elif len(words) > 1:
            found.error(
                path, instruction.line, f"FROM {instruction.rest} is not understood", "FROM IMAGE AS STAGE"
            )
    return stages


def _check_copy(
    found: _Findings, path: Path, context: BuildContext, instruction: Instruction, stages: Sequence[str]
) -> None:
    origin = instruction.flag("from")
    if origin is not None:
        known = (
            origin in stages or is_whole_number(origin) or origin == "kestrel" or re.search(r"[.:/$]", origin)
        )
        if not known:
            found.warn(
                path, instruction.line, f"no stage is called {origin}", "it will be looked up as an image"
            )
        return
    if "<<" in instruction.rest:
        return
    words = instruction.words()
    if len(words) < 2:
        found.error(
            path,
            instruction.line,
            f"{instruction.keyword} needs a source and a target",
            "e.g. COPY app /srv/app",
        )
    for source in words[:-1]:
        if "$" in source or source.startswith(("http://", "https://", "git@")) or source.endswith(".git"):
            continue
        pattern = posixpath.normpath(source.lstrip("/") or ".")
        if pattern.startswith(".."):
            found.error(
                path, instruction.line, f"{instruction.keyword} {source}: outside of the build context",
                f"copy it into {show_path(context.folder)}, or set `context` in fledge.toml",
            )  # fmt: skip
        elif not (matches := context.find_matches(source)):
            found.error(
                path, instruction.line, f"{instruction.keyword} {source}: no such file in {show_path(context.folder)}",
                "make the file, or correct the path (it is relative to the build context)",
            )  # fmt: skip
        elif context.ignore.path and not any(map(context.is_sent, matches)):
            ignore = show_path(context.ignore.path)
            found.error(
                path, instruction.line, f"{instruction.keyword} {source}: {ignore} keeps it out of the build",
                f"add the line !{pattern} to {ignore}",
            )  # fmt: skip


def _find_command(instructions: Sequence[Instruction]) -> tuple[int, str] | None:
    """(line, program) of what the image runs: ENTRYPOINT's, else CMD's; a later one takes the place of an earlier."""
    entrypoint = command = None
    for instruction in instructions:
        if instruction.keyword not in ("ENTRYPOINT", "CMD"):
            continue
        words = [word for word in instruction.words()[:2] if word != "exec"]
        place = (instruction.line, words[0]) if words else None
        if instruction.keyword == "CMD":
            command = place
        else:
            # Docker forgets what the base said with CMD, and an empty ENTRYPOINT is none.
            entrypoint, command = place, None
    return entrypoint or command


def _check_command(
    found: _Findings, recipe: Recipe | None, recipe_path: Path, dockerfile: Path | None
) -> None:
    """Warn of an init system where no kestrel config says what to run instead."""
    entrypoint = recipe.plugin.manifest.workload.entrypoint if recipe is not None else []
    if found.config is not None:
        return
    if entrypoint:
        line = find_line(_read(recipe_path), ("plugin", "manifest", "workload", "entrypoint"))
        place, program = (recipe_path, line), entrypoint[0]
    elif found.command is not None and dockerfile is not None:
        place, program = (dockerfile, found.command[0]), found.command[1]
    else:
        return
    if is_unknown_init(program):
        found.warn(*place, f"the command {program} {WANTS_TO_BE_INIT}", INIT_ADVICE)


def _check_build_script(found: _Findings, recipe_path: Path, script: Path) -> None:
    """What a script does cannot be known; a kestrel config beside it is taken for the one that it puts in."""
    line = find_line(_read(recipe_path), ("plugin", "runtime", "build_script"))
    if not script.is_file():
        found.error(recipe_path, line, f"no such file: {show_path(script)}", "correct `build_script`")
    elif not os.access(script, os.X_OK):
        found.error(recipe_path, line, f"{show_path(script)} cannot be run", f"chmod +x {show_path(script)}")
    names = (name for name in CONFIG_NAMES if (script.parent / name).is_file())
    found.config = found.config or next((script.parent / name for name in names), None)


def _look_for_config(found: _Findings, path: Path, line: int, context: Path) -> None:
    for name in CONFIG_NAMES:
        if (context / name).is_file():
            found.warn(
                path, line, f"{name} is here, but nothing copies it to where the agent reads it",
                f"COPY {name} {KESTREL_CONFIG_PATH}",
            )  # fmt: skip
            found.config = context / name
            return


# -- kestrel config and ports ----------------------------------------------------------------------------


def _check_kestrel_config(found: _Findings) -> list[tuple[int, int]]:
    """The agent's own opinion of its config; returns the ports of the workload's checks with their lines."""
    path = found.config
    if path is None or not path.is_file():
        return []
    content = path.read_bytes()
    checked = check_kestrel_config(content, show_path(path))
    if checked is None:
        found.warn(path, 0, "only its YAML was checked", NOT_CHECKED)
    problems = checked or []
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        document = YAML(typ="rt").load(content)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        if not problems and mark is not None:
            problems = [
                Problem(show_path(path), mark.line + 1, mark.column + 1, f"not YAML: {error.problem}")
            ]
        found.problems += problems
        return []
    except YAMLError as error:
        found.problems += problems or [Problem(show_path(path), 0, 0, f"not YAML: {error}")]
        return []
    found.problems += problems
    return list(_health_ports(document))


def _health_ports(document: Any) -> Iterator[tuple[int, int]]:
    """(port, line) of every http or tcp check of the workload itself; those of single processes are their own."""
    health = document.get("health") if isinstance(document, dict) else None
    for check in health if isinstance(health, list) else [health]:
        if not isinstance(check, dict):
            continue
        for kind in ("http", "tcp"):
            value = check.get(kind)
            if isinstance(value, dict) and isinstance(value.get("port"), int):
                place = value.lc.key("port")[0] + 1 if hasattr(value, "lc") else 0
                yield value["port"], place


def _check_ports(
    found: _Findings, recipe: Recipe | None, recipe_path: Path, dockerfile: Path | None,
    health: Sequence[tuple[int, int]],
) -> None:  # fmt: skip
    if recipe is None:
        return
    workload = recipe.plugin.manifest.workload
    line = find_line(_read(recipe_path), ("plugin", "manifest", "workload", "port"))
    if workload.type in ("http", "tcp") and "type" in workload.model_fields_set and workload.port is None:
        if not found.exposed:
            found.warn(
                recipe_path, line, f"workload.type is {workload.type}, but no port is given",
                "set workload.port, or EXPOSE it in the Dockerfile",
            )  # fmt: skip
        return
    if workload.port is None:
        return
    if dockerfile is not None and found.exposed and workload.port not in found.exposed:
        ports = ", ".join(map(str, found.exposed))
        found.warn(
            recipe_path, line, f"workload.port is {workload.port}, but the Dockerfile says EXPOSE {ports}",
            "make them agree, or drop EXPOSE",
        )  # fmt: skip
    # Of several checks one may well ask the port that is served, and the others something else.
    if found.config is not None and health and workload.port not in dict(health):
        port, place = health[0]
        found.warn(
            found.config, place, f"the health check asks port {port}, workload.port is {workload.port}",
            "make them agree, unless the check has a port of its own",
        )  # fmt: skip


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
