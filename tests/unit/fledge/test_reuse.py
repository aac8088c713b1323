# SPDX-License-Identifier: Apache-2.0
"""What is taken from an earlier plugin is what a full build would make, whatever changed and whatever was damaged."""

from __future__ import annotations

import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.oci_images import make_entry, make_layer, write_docker_archive
from support.planned_images import FixedImage
from support.remembering_monitor import RememberingMonitor
from volant.filesystems.blocks import Origin, Piece
from volant.fledge import qcow2
from volant.fledge import reuse as reuse_module
from volant.fledge.build import build_plugin
from volant.fledge.cache import PluginCache
from volant.fledge.clusters import Window
from volant.fledge.known_digests import find_cache_folder, seal
from volant.fledge.order import CommandLine, make_order
from volant.fledge.reuse import Reuse, WindowKeys, decode_index, place_clusters

pytestmark = pytest.mark.usefixtures("agent")
CONFIG = {"Cmd": ["/bin/app"]}
Layers = list[bytes]


def make_content(seed: int, kind: str, size: int) -> bytes:
    chosen = random.Random(seed)
    if kind == "noise":
        return chosen.randbytes(size)
    if kind == "zeros":
        return bytes(size)
    return b"".join(b"%d all work and no play\n" % chosen.randrange(1 << 30) for _ in range(size // 30 + 1))[
        :size
    ]


def make_big_layers(last: int = 0) -> Layers:
    """Some MiB of everything that clusters may be, and a last layer that changes."""
    first = make_layer(
        *(make_entry(f"usr/{kind}-{number}", content=make_content(number, kind, 900_000 + 7 * number))
          for kind in ("text", "noise", "zeros") for number in range(4))
    )  # fmt: skip
    return [first, make_layer(make_entry("srv/app", content=make_content(last, "text", 300_000)))]


def build(layers: Layers, name: str, *, use_cache: bool = True) -> bytes:
    write_docker_archive(Path("image.tar"), layers, config=CONFIG, tags=["app:1.0.0"])
    line = CommandLine(docker_archive="image.tar", output=name, use_cache=use_cache)
    return build_plugin(make_order(line), RememberingMonitor()).path.read_bytes()


class Counter:
    """Counts the windows that were taken over and those that were not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = self.made = 0
        fetch = Reuse.fetch

        def count(reuse: Reuse, key: bytes, cluster_size: int) -> object:
            found = fetch(reuse, key, cluster_size)
            if found is None:
                self.made += 1
            else:
                self.taken += 1
            return found

        monkeypatch.setattr(Reuse, "fetch", count)


def test_a_change_in_the_last_layer_makes_only_its_windows_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    build(make_big_layers(), "first")
    assert (counter.taken, counter.made) == (0, counter.made)
    again = build(make_big_layers(last=1), "second")
    assert counter.taken >= 6, "the layer below lies where it lay"
    assert again == build(make_big_layers(last=1), "full", use_cache=False)


def test_a_folder_more_or_a_file_less_moves_the_layers_below_by_whole_windows_at_most(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    first, last = make_big_layers()
    below = make_layer(make_entry("opt/a", content=b"a" * 5000), make_entry("opt/b", content=b"b" * 5000))
    build([below, first, last], "first")
    entries = [make_entry(f"new/{number}/file", content=b"x") for number in range(20)]
    changed = make_layer(*entries, make_entry("opt/.wh.a"), make_entry("l", tarfile.SYMTYPE, link="t" * 200))
    again = build([below, first, changed], "second")
    assert counter.taken >= 6
    assert again == build([below, first, changed], "full", use_cache=False)


def damage_nothing(plugin: Path, index: Path, chosen: random.Random) -> None:
    """The plugin as it was."""


def damage_bits(plugin: Path, index: Path, chosen: random.Random) -> None:
    content = bytearray(plugin.read_bytes())
    for _ in range(chosen.randint(1, 40)):
        content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    rewrite(plugin, bytes(content))


def damage_stretch(plugin: Path, index: Path, chosen: random.Random) -> None:
    content = bytearray(plugin.read_bytes())
    start = chosen.randrange(len(content))
    length = min(chosen.randint(1, 3 << 20), len(content) - start)
    content[start : start + length] = chosen.choice((bytes(length), chosen.randbytes(length)))
    rewrite(plugin, bytes(content))


def damage_by_moving(plugin: Path, index: Path, chosen: random.Random) -> None:
    content = bytearray(plugin.read_bytes())
    length = chosen.choice((512, 65536, 65540, 1 << 20))
    if len(content) > 3 * length:
        one, other = sorted(chosen.sample(range(0, len(content) - length, 512), 2))
        content[one : one + length], content[other : other + length] = (
            bytes(content[other : other + length]), bytes(content[one : one + length]),
        )  # fmt: skip
    rewrite(plugin, bytes(content))


def cut_short(plugin: Path, index: Path, chosen: random.Random) -> None:
    rewrite(plugin, plugin.read_bytes()[: chosen.randrange(plugin.stat().st_size)])


def damage_index(plugin: Path, index: Path, chosen: random.Random) -> None:
    text = bytearray(index.read_bytes())
    for _ in range(chosen.randint(1, 20)):
        text[chosen.randrange(len(text))] = chosen.choice(b"0123456789abcdef[], -")
    rewrite(index, bytes(text))


def read_index(index: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(index.read_bytes().partition(b"\n")[2])
    return document


def exchange_records(plugin: Path, index: Path, chosen: random.Random) -> None:
    """Every key leads to another window."""
    document = read_index(index)
    rows = document["windows"]
    others = chosen.sample(rows, len(rows))
    document["windows"] = [[row[0], *other[1:]] for row, other in zip(rows, others, strict=True)]
    index.write_bytes(seal(json.dumps(document).encode()))


def bend_records(plugin: Path, index: Path, chosen: random.Random) -> None:
    document = read_index(index)
    for row in document["windows"]:
        match chosen.randrange(6):
            case 0:
                row[1] = chosen.choice((-1, row[1] + 1, row[1] ^ 512, 1 << 62, 1 << 70))
            case 1:
                row[3] = [number + 1 for number in row[3]]
            case 2:
                row[4] = chosen.choice((row[4][:-1], [*row[4], 9], [size + 1 for size in row[4]], [1 << 80]))
            case 3:
                row[3], row[4] = [], []
    document["payload_offset"] = chosen.choice((document["payload_offset"], -1, 0, 1 << 66))
    index.write_bytes(seal(json.dumps(document).encode()))


def rewrite(path: Path, content: bytes) -> None:
    """In place and with the times that it had: nothing but the bytes tells."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
        file.truncate(max(len(content), 0))
    os.truncate(path, before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES: list[Callable[[Path, Path, random.Random], None]] = [
    damage_nothing, damage_bits, damage_stretch, damage_by_moving, cut_short, damage_index, exchange_records,
    bend_records,
]  # fmt: skip


def keep_entry(damage: Callable[[Path, Path, random.Random], None], chosen: random.Random) -> None:
    folder = find_cache_folder() / "plugins"
    for index in folder.glob("*.windows"):
        damage(index.with_name(index.name.replace(".windows", ".tar.gz")), index, chosen)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_earlier_plugin_leads_to_the_same_bytes(
    home: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path, Path, random.Random], None]
) -> None:
    build(make_big_layers(), "first")
    keep_entry(damage, random.Random(damage.__name__))
    assert PluginCache().entries(), "it is still believed to be what was stored"
    counter = Counter(monkeypatch)
    assert build(make_big_layers(last=1), "second") == build(make_big_layers(last=1), "full", use_cache=False)
    assert counter.made > 0


def test_a_file_changed_in_a_layer_leaves_the_others_as_they_were_compressed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer is another, so its windows have other keys; what lies where it lay is inflated and compared."""

    def make(changed: bytes) -> Layers:
        files = [
            make_entry(f"f{number}", content=make_content(number, "text", 300_000)) for number in range(10)
        ]
        return [make_layer(*files[:5], make_entry("x", content=changed * 1000), *files[5:])]

    build(make(b"one"), "first")
    compressed: list[int] = []
    make_compress = qcow2._make_compress

    def count(*given: Any) -> Any:
        compress = make_compress(*given)
        return lambda clusters: compressed.append(len(clusters)) or compress(clusters)

    monkeypatch.setattr(qcow2, "_make_compress", count)
    again = build(make(b"two"), "second")
    few, _ = sum(compressed), compressed.clear()
    assert again == build(make(b"two"), "full", use_cache=False)
    assert few < sum(compressed) / 2


@pytest.mark.parametrize("recipe", ["zlib", "older zstd"])
def test_what_was_compressed_otherwise_is_not_taken(
    home: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    text = '[plugin]\nname = "app"\nversion = "1.0.0"\n[plugin.runtime]\ncompression = "{}"\n'
    (home / "fledge.toml").write_text(text.format("zlib" if recipe == "zlib" else "zstd"))
    with monkeypatch.context() as patch:
        if recipe != "zlib":
            patch.setattr(qcow2, "_VERSIONS", "zstd (1, 0, 0)")
            patch.setitem(qcow2._DEFAULT_LEVELS, "zstd", 1)
        build(make_big_layers(), "first")
    (home / "fledge.toml").write_text(text.format("zstd"))
    counter = Counter(monkeypatch)
    assert build(make_big_layers(1), "second") == build(make_big_layers(1), "full", use_cache=False)
    assert counter.taken == 0


PATHS = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/f", "link", "usr/lib/x"])
FILES = st.tuples(
    PATHS, st.integers(0, 3), st.sampled_from(["text", "noise", "zeros"]),
    st.sampled_from([0, 1, 4096, 65536, 70_001, 400_000, 1_100_000, 2_500_000]),
)  # fmt: skip
LAYERS = st.lists(st.lists(FILES, min_size=1, max_size=4), min_size=1, max_size=4)


def make_layers(described: list[list[tuple[str, int, str, int]]], hidden: str | None) -> Layers:
    layers = [
        make_layer(
            *(make_entry(path, content=make_content(seed, kind, size)) for path, seed, kind, size in files)
        )
        for files in described
    ]
    if hidden is not None:
        folder, _, name = hidden.rpartition("/")
        layers.append(make_layer(make_entry(f"{folder}/.wh.{name}".lstrip("/"))))
    return layers


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=LAYERS, changes=LAYERS, kept=st.integers(0, 4), hidden=st.none() | PATHS,
    damage=st.sampled_from(DAMAGES), seed=st.integers(0, 1 << 20),
)  # fmt: skip
def test_a_rebuild_is_a_full_build_whatever_changed_and_whatever_was_damaged(
    home: Path, before: list[list[tuple[str, int, str, int]]], changes: list[list[tuple[str, int, str, int]]],
    kept: int, hidden: str | None, damage: Callable[[Path, Path, random.Random], None], seed: int,
) -> None:  # fmt: skip
    shutil.rmtree(find_cache_folder(), ignore_errors=True)
    build(make_layers(before, None), "first")
    keep_entry(damage, random.Random(seed))
    after = make_layers(before[:kept] + changes, hidden)
    assert build(after, "second") == build(after, "full", use_cache=False)
    # What was noted of the second serves a third.
    assert build([*after, make_layer(make_entry("z", content=b"z"))], "third") == build(
        [*after, make_layer(make_entry("z", content=b"z"))], "full", use_cache=False
    )


def test_keys_name_content_and_not_place(tmp_path: Path) -> None:
    content = make_content(1, "noise", 300_000)
    (tmp_path / "layer").write_bytes(content)
    (tmp_path / "archive").write_bytes(bytes(512) + content)
    descriptors = [os.open(tmp_path / name, os.O_RDONLY) for name in ("layer", "archive")]
    keys = WindowKeys("zstd 3", [Origin(descriptors[0], 0, 300_000, "sha256:a"),
                                 Origin(descriptors[1], 512, 300_000, "sha256:a")])  # fmt: skip
    try:
        one = keys.make_key(Window(0, [(0, 100_000, None, descriptors[0], 1000)]))
        assert one == keys.make_key(Window(5 << 20, [(0, 100_000, None, descriptors[1], 1512)]))
        others = [
            Window(0, [(4096, 100_000, None, descriptors[0], 1000)]),
            Window(0, [(0, 100_001, None, descriptors[0], 1000)]),
            Window(0, [(0, 100_000, None, descriptors[0], 1001)]),
            Window(0, [(0, 100_000, content[1000:101_000], -1, 0)]),
            Window(0, [(0, 100_000, None, descriptors[0], 1000), (200_000, 1, b"x", -1, 0)]),
            Window(0, [(0, 100_000, None, descriptors[0], 1000), (200_000, 1, b"y", -1, 0)]),
        ]
        assert len({one, *map(keys.make_key, others)}) == 7
        unknown = WindowKeys("zstd 3", [])
        assert unknown.make_key(Window(0, [(0, 9, None, descriptors[0], 0)])) == unknown.make_key(
            Window(0, [(0, 9, None, descriptors[1], 512)])
        ), "what has no digest is read"
        assert WindowKeys("zstd 4", []).make_key(Window(0)) != unknown.make_key(Window(0))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_clusters_lie_where_the_writer_puts_them() -> None:
    assert list(place_clusters(70_000, [5000, 65536, 100, 65536], 65536)) == [
        70_000,
        131_072,
        196_608,
        262_144,
    ]


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"recipe": "", "payload_offset": 1, "windows": [[1]]}', b"\xff", b"[" * 9999],
)
def test_what_is_no_index_is_none(tmp_path: Path, text: bytes, is_sealed: bool) -> None:
    text = seal(text) if is_sealed else text
    (tmp_path / "index").write_bytes(text)
    (tmp_path / "plugin").touch()
    assert reuse_module.open_earlier(tmp_path / "plugin", tmp_path / "index") is None
    with pytest.raises((ValueError, TypeError, KeyError, RecursionError)):
        decode_index(text)


def test_an_image_without_origins_can_be_written_with_reuse() -> None:
    from volant.fledge.qcow2 import write_qcow2

    class Sink:
        def __init__(self) -> None:
            self.content = bytearray()

        def append(self, data: bytes | memoryview) -> None:
            self.content += data

        def patch(self, offset: int, data: bytes) -> None:
            self.content[offset : offset + len(data)] = data

        def settle(self, end: int) -> None:
            pass

    image = FixedImage(8 << 20, [Piece(0, 100_000, make_content(3, "text", 100_000))])
    plain, noted = Sink(), Sink()
    write_qcow2(image, plain)
    write_qcow2(image, noted, reuse=(reuse := Reuse()))
    assert plain.content == noted.content
    assert len(reuse.index.records) == 1


@pytest.mark.parametrize("damage", DAMAGES[:5], ids=lambda damage: damage.__name__)
def test_the_same_plugin_comes_from_the_cache_only_while_it_is_whole(
    home: Path, damage: Callable[[Path, Path, random.Random], None]
) -> None:
    first = build(make_big_layers(), "first")
    keep_entry(damage, random.Random(7))
    line = CommandLine(docker_archive="image.tar", output="again")
    again = build_plugin(make_order(line), RememberingMonitor())
    assert again.path.read_bytes() == first
    assert again.from_cache == (damage is damage_nothing)
