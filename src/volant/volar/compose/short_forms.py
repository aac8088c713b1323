# SPDX-License-Identifier: Apache-2.0
"""The short ways in which a compose file may say things, as the long ones. ValueError says what is wrong."""

from __future__ import annotations

import re
import shlex
from typing import Any

from volant.digits import is_whole_number

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_DURATION_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ns|us|µs|ms|s|m|h|d|w)")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_ACCESS = frozenset({"ro", "rw", "z", "Z", "cached", "delegated", "consistent", "nocopy"})
_PROPAGATION = frozenset({"shared", "rshared", "slave", "rslave", "private", "rprivate"})
MOST_PORTS = 1000


def read_duration(value: Any) -> Any:
    """Seconds of 1m30s or 500ms; a number is of seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return value
    parts = _DURATION_PART.findall(value)
    if "".join(number + unit for number, unit in parts) != value or not parts:
        if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", value):
            return float(value)
        raise ValueError(f"{value!r} is not a duration: write it like 1m30s or 500ms")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def read_bytes(value: Any) -> Any:
    """Bytes of 512m or 1.5GB; units are of 1024."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a size: write it like 512m or 2g")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def read_command(value: Any) -> Any:
    """A line is split as a shell would, without running one."""
    if not isinstance(value, str):
        return value
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be split into words: {error}") from error


def read_mapping(value: Any) -> Any:
    """A list of NAME=VALUE as a mapping; None for a name alone."""
    if isinstance(value, list):
        pairs = [str(item).partition("=") for item in value]
        return {name: text if sign else None for name, sign, text in pairs}
    if isinstance(value, dict):
        return {str(name): _as_text(item) for name, item in value.items()}
    return value


def read_labels(value: Any) -> Any:
    found = read_mapping(value)
    return {name: item or "" for name, item in found.items()} if isinstance(found, dict) else found


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def read_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, int)) else value


def read_names(value: Any) -> Any:
    """A list of names as a mapping to nothing more."""
    return {str(name): {} for name in value} if isinstance(value, list) else _without_null(value)


def _without_null(value: Any) -> Any:
    return (
        {name: {} if item is None else item for name, item in value.items()}
        if isinstance(value, dict)
        else value
    )


def read_dependencies(value: Any) -> Any:
    if isinstance(value, list):
        return {str(name): {"condition": "service_started"} for name in value}
    return value


def read_hosts(value: Any) -> Any:
    """NAME:ADDRESS and NAME=ADDRESS, or a mapping, as name → addresses."""
    if isinstance(value, list):
        found: dict[str, list[str]] = {}
        for item in value:
            name, sign, address = str(item).partition("=" if "=" in str(item) else ":")
            if not sign:
                raise ValueError(f"{item!r} is not NAME:ADDRESS")
            found.setdefault(name, []).append(address.strip("[]"))
        return found
    if isinstance(value, dict):
        return {name: [str(each).strip("[]") for each in read_list(item)] for name, item in value.items()}
    return value


def read_ports(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    ports: list[Any] = []
    for item in value:
        ports += _read_port(str(item)) if isinstance(item, (str, int)) else [item]
    if len(ports) > MOST_PORTS:
        raise ValueError(f"more than {MOST_PORTS} ports")
    return ports


def _read_port(text: str) -> list[dict[str, Any]]:
    """[[HOST_IP:]HOST_PORT[-END]:]PORT[-END][/PROTOCOL]"""
    plain, _, protocol = text.partition("/")
    address, _, rest = plain.rpartition("]:") if plain.startswith("[") else ("", "", plain)
    parts = rest.split(":")
    if address:
        parts = [address.lstrip("["), *parts]
    if len(parts) > 3 or (len(parts) > 1 and not parts[-1]):
        raise ValueError(f"{text!r} is not a port: write it like 8080:80 or 127.0.0.1:8080:80/udp")
    targets = _read_range(parts[-1], text)
    published = _read_range(parts[-2], text) if len(parts) > 1 and parts[-2] else []
    if published and len(targets) > 1 and len(published) != len(targets):
        raise ValueError(f"{text!r}: its two ranges are of different lengths")
    common: dict[str, Any] = {"protocol": protocol or "tcp"}
    if len(parts) == 3:
        common["host_ip"] = parts[0]
    if len(targets) == 1 and len(published) > 1:
        return [{**common, "target": targets[0], "published": f"{published[0]}-{published[-1]}"}]
    return [
        {**common, "target": target, **({"published": str(published[number])} if published else {})}
        for number, target in enumerate(targets)
    ]


def _read_range(text: str, whole: str) -> list[int]:
    first, sign, last = text.partition("-")
    if not is_whole_number(first) or (sign and not is_whole_number(last)):
        raise ValueError(f"{whole!r} is not a port: write it like 8080:80 or 3000-3005")
    begin, end = int(first), int(last or first)
    if not 0 < begin <= end <= 65535 or end - begin >= MOST_PORTS:
        raise ValueError(f"{whole!r} is not a port: write it like 8080:80 or 3000-3005")
    return list(range(begin, end + 1))


def read_volumes(value: Any) -> Any:
    return (
        [_read_volume(item) if isinstance(item, str) else item for item in value]
        if isinstance(value, list)
        else value
    )


def _read_volume(text: str) -> dict[str, Any]:
    """[SOURCE:]TARGET[:MODE]; a source that looks like a path is one."""
    parts = text.split(":")
    options: list[str] = []
    if len(parts) > 1 and set(parts[-1].split(",")) <= _ACCESS | _PROPAGATION:
        options = parts.pop().split(",")
    if len(parts) > 2 or not all(parts):
        raise ValueError(f"{text!r} is not a volume: write it like data:/var/lib/data or ./src:/app:ro")
    found: dict[str, Any] = {"type": "volume", "target": parts[-1]}
    if len(parts) == 2:
        is_path = parts[0].startswith((".", "/", "~"))
        found = {"type": "bind" if is_path else "volume", "source": parts[0], "target": parts[1]}
        if is_path:
            found["bind"] = {"create_host_path": True}
    if "ro" in options:
        found["read_only"] = True
    return found


def read_references(value: Any) -> Any:
    """Configs and secrets by their names alone."""
    return (
        [{"source": item} if isinstance(item, str) else item for item in value]
        if isinstance(value, list)
        else value
    )


def read_build(value: Any) -> Any:
    return {"context": value} if isinstance(value, str) else value


def read_extends(value: Any) -> Any:
    return {"service": value} if isinstance(value, str) else value


def read_files_to_read(value: Any) -> Any:
    """`env_file`: a path, or several, each by itself or with what it is."""
    return (
        [{"path": item} if isinstance(item, str) else item for item in read_list(value)]
        if value is not None
        else value
    )


def read_test(value: Any) -> Any:
    return ["CMD-SHELL", value] if isinstance(value, str) else value


def read_mode(value: Any) -> Any:
    """A file's mode, written in octal."""
    if isinstance(value, str):
        try:
            return int(value.removeprefix("0o"), 8)
        except ValueError as error:
            raise ValueError(f"{value!r} is not a file mode: write it like 0440") from error
    return value
