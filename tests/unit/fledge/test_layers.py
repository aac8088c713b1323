# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import os
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import oci_images
from support.oci_images import compress, digest_of, make_entry, make_layer, write_docker_archive, write_layout
from volant.errors import InvalidInput
from volant.filesystems.filetree import FileTree
from volant.fledge.layers import merge_layers
from volant.fledge.sources.archive import open_docker_archive, open_oci_layout
from volant.fledge.spool import Limits
from volant.progress import SilentMonitor

Entry = tuple[tarfile.TarInfo, bytes]
Merge = Callable[..., FileTree]
DIR, LINK, SOFT = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


def whiteout(path: str) -> Entry:
    folder, _, name = path.rpartition("/")
    return make_entry(f"{folder}/.wh.{name}".lstrip("/"))


@pytest.fixture
def merge(tmp_path: Path) -> Iterator[Merge]:
    """Merges layers, each a sequence of entries, through a docker-archive."""
    with ExitStack() as stack:

        def merge_these(*layers: Sequence[Entry], limits: Limits | None = None) -> FileTree:
            path = write_docker_archive(tmp_path / "image.tar", [make_layer(*entries) for entries in layers])
            image = open_docker_archive(path, stack)
            tree = merge_layers(image, stack, SilentMonitor(), limits)
            image.verify()
            return tree

        yield merge_these


def listing(tree: FileTree) -> str:
    return " ".join(os.fsdecode(path) for path, _ in tree.walk() if path)


def text(tree: FileTree, path: str) -> bytes:
    node = tree.find(path)
    assert node is not None, f"{path} is missing from {listing(tree)}"
    return tree.read(node)


def test_later_layers_replace_files_and_keep_folders(merge: Merge) -> None:
    tree = merge(
        [
            make_entry("d", DIR, mode=0o700, uid=1),
            make_entry("d/f", content=b"old"),
            make_entry("d/g", content=b"g"),
        ],
        [
            make_entry("d", DIR, mode=0o711, uid=2, pax={"SCHILY.xattr.user.a": "1"}),
            make_entry("d/f", content=b"new"),
        ],
    )
    folder = tree.find("/d")
    assert folder is not None
    assert (tree.mode[folder], tree.uid[folder], tree.xattrs[folder]) == (
        stat.S_IFDIR | 0o711,
        2,
        ((b"user.a", b"1"),),
    )
    assert (text(tree, "d/f"), text(tree, "d/g")) == (b"new", b"g")


def test_missing_parents_are_made_for_root(merge: Merge) -> None:
    tree = merge([make_entry("a/b/c", content=b"x", uid=7, mode=0o600)])
    for path in ("a", "a/b"):
        node = tree.find(path)
        assert node is not None and (tree.mode[node], tree.uid[node]) == (stat.S_IFDIR | 0o755, 0)


def test_file_becomes_folder_and_back(merge: Merge) -> None:
    first, second = [make_entry("x", content=b"1")], [make_entry("x", DIR), make_entry("x/y", content=b"2")]
    assert listing(merge(first, second)) == "x x/y"
    tree = merge(first, second, [make_entry("x", content=b"3")])
    assert (listing(tree), text(tree, "x")) == ("x", b"3")


@pytest.mark.parametrize("turned", [False, True])
def test_whiteouts_spare_their_own_layer_in_any_order(merge: Merge, turned: bool) -> None:
    lower = [
        make_entry("d", DIR),
        make_entry("d/old"),
        make_entry("e", DIR),
        make_entry("e/old"),
        make_entry("gone"),
    ]
    upper = [
        make_entry("d", DIR), make_entry("d/.wh..wh..opq"), make_entry("d/new"),
        whiteout("e/old"), make_entry("e/old", content=b"again"), whiteout("gone"), whiteout("never/there"),
    ]  # fmt: skip
    tree = merge(lower, upper[::-1] if turned else upper)
    assert listing(tree) == "d d/new e e/old"
    assert text(tree, "e/old") == b"again"


def test_opaque_root_keeps_what_lies_deep_in_its_own_layer(merge: Merge) -> None:
    lower = [make_entry("a", DIR), make_entry("a/b", DIR), make_entry("a/b/old"), make_entry("c")]
    tree = merge(lower, [make_entry("a/b/new"), make_entry(".wh..wh..opq")])
    assert listing(tree) == "a a/b a/b/new"


def test_hard_link_to_an_older_file_is_spared_by_its_layers_whiteout(merge: Merge) -> None:
    tree = merge(
        [make_entry("f", content=b"x"), make_entry("g")], [make_entry("g", LINK, link="f"), whiteout("g")]
    )
    assert listing(tree) == "f g"


@pytest.mark.guide("6-2")
def test_whiteout_of_a_folder_takes_all_of_it(merge: Merge) -> None:
    lower = [make_entry("d", DIR), make_entry("d/e", DIR), make_entry("d/e/f"), make_entry("stays")]
    assert listing(merge(lower, [whiteout("d")])) == "stays"


def test_hard_links_cross_layers_and_outlive_their_target(merge: Merge) -> None:
    tree = merge(
        [make_entry("f", content=b"first")],
        [make_entry("g", LINK, link="/f"), make_entry("h", LINK, link="./g")],
        [make_entry("f", content=b"second")],
        [whiteout("g")],
    )
    assert (text(tree, "f"), text(tree, "h")) == (b"second", b"first")
    assert tree.count_links() == {}
    again = merge([make_entry("f"), make_entry("g", LINK, link="f")])
    assert list(again.count_links().values()) == [2]


def test_hard_link_to_itself_changes_nothing(merge: Merge) -> None:
    tree = merge([make_entry("f", content=b"x"), make_entry("f", LINK, link="f")])
    assert text(tree, "f") == b"x"


def test_paths_never_leave_the_root(merge: Merge) -> None:
    tree = merge(
        [make_entry("../../a"), make_entry("/b"), make_entry("c/../../../d"), make_entry("./e//f/./g")]
    )
    assert listing(tree) == "a b d e e/f e/f/g"


def test_paths_through_symlinks_stay_inside(merge: Merge) -> None:
    tree = merge(
        [make_entry("real", DIR), make_entry("abs", SOFT, link="/real"), make_entry("up", SOFT, link="../../../real"),
         make_entry("etc", SOFT, link="/../../etc-of-image"), make_entry("chain", SOFT, link="abs/../up")],
        [make_entry("abs/1"), make_entry("up/2"), make_entry("etc/passwd"), make_entry("chain/3")],
    )  # fmt: skip
    assert listing(tree) == "abs chain etc etc-of-image etc-of-image/passwd real real/1 real/2 real/3 up"


def test_a_directory_entry_replaces_a_symlink(merge: Merge) -> None:
    tree = merge(
        [make_entry("real", DIR), make_entry("l", SOFT, link="real")],
        [make_entry("l", DIR), make_entry("l/f")],
    )
    assert listing(tree) == "l l/f real"


def test_replacing_a_folder_forgets_where_paths_led(merge: Merge) -> None:
    """Entries of one folder come together, and the folder may change in between."""
    tree = merge(
        [make_entry("d/a"), make_entry("other", DIR), make_entry("d", SOFT, link="other"), make_entry("d/b"),
         make_entry("d", DIR), make_entry("d/c")],
    )  # fmt: skip
    assert listing(tree) == "d d/c other other/b"


def test_root_entry_sets_the_root_folder(merge: Merge) -> None:
    tree = merge([make_entry("./", DIR, mode=0o700, uid=9, mtime=5)])
    assert (tree.mode[0], tree.uid[0], tree.mtime[0]) == (stat.S_IFDIR | 0o700, 9, 5)


def test_symlinks_have_the_one_mode_that_linux_knows(merge: Merge) -> None:
    tree = merge([make_entry("l", SOFT, link="x", mode=0o600)])
    assert tree.mode[1] == stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([make_entry("l", LINK, link="missing")], "'missing', which does not exist"),
        ([make_entry("l", LINK, link="../../etc/shadow")], "which does not exist"),
        ([make_entry("d", DIR), make_entry("l", LINK, link="d")], "which is a directory"),
        ([make_entry("d/f"), make_entry("d", LINK, link="d/f")], "below the directory that it replaces"),
        ([make_entry("a", SOFT, link="b"), make_entry("b", SOFT, link="a"), make_entry("a/x")], "loop"),
        ([make_entry("a", SOFT, link="a/a"), make_entry("a/x")], "loop"),
        ([make_entry("n" * 256)], "256 bytes"),
        ([make_entry("n" * 256 + "/x")], "256 bytes"),
        ([make_entry("d/" * 2100 + "f")], "longer than a file system allows"),
        ([make_entry("s", SOFT, link="x" * 5000)], "5000 bytes"),
        ([make_entry("..", content=b"x")], "root directory"),
        ([make_entry(".wh.")], "whiteout of nothing"),
        ([make_entry(".wh...")], "whiteout of nothing"),
    ],
)  # fmt: skip
def test_what_has_no_safe_meaning_is_refused_with_its_place(
    merge: Merge, entries: list[Entry], reason: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        merge([make_entry("first")], entries)
    message = str(caught.value)
    assert reason in message
    assert message.startswith("cannot read layer 2 of 2 (sha256:")
    assert "entry " in message and ", byte " in message


@pytest.mark.parametrize("lower", [make_entry("f", content=b"old"), make_entry("f", SOFT, link="g")])
def test_a_file_that_paths_lead_through_becomes_a_folder_and_is_told(
    merge: Merge, capsys: pytest.CaptureFixture[str], lower: Entry
) -> None:
    first = [lower, make_entry("g", content=b"file"), make_entry("hard", LINK, link="g")]
    tree = merge(first, [make_entry("f/a/b", content=b"new"), make_entry("f/a/c", content=b"too")])
    assert (text(tree, "hard"), text(tree, f"{'g' if lower[0].linkname else 'f'}/a/b")) == (b"file", b"new")
    assert tree.find("f") is not None
    told = capsys.readouterr().err
    assert "warning: layer 2 of 2 (sha256:" in told
    assert f"): entry 'f/a/b', byte 0: its parent '{'g' if lower[0].linkname else 'f'}' was not" in told
    assert told.count("\n") == 1


def test_only_the_first_oddities_are_told(merge: Merge, capsys: pytest.CaptureFixture[str]) -> None:
    merge([entry for number in range(30) for entry in (make_entry("f"), make_entry("f/below"))][1:])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 11 and told[-1] == "warning: 19 further entries of the image are odd as well"


def test_paths_cannot_be_built_up_through_symlinks(merge: Merge) -> None:
    entries = []
    for number in range(6):
        above = f"s{number - 1}/" if number else ""
        entries += [
            make_entry(above + "directory/" * 100, DIR),
            make_entry(f"s{number}", SOFT, link=above + "directory/" * 100),
        ]
    with pytest.raises(InvalidInput, match="symlinks followed, is longer"):
        merge(entries)


def test_repeated_whiteouts_cost_nothing_more(merge: Merge) -> None:
    """2,000 names times 2,000 whiteouts of two kinds would take minutes."""
    lower = [
        make_entry("d", DIR),
        make_entry("d/e", DIR),
        *(make_entry(f"d/e/{number}") for number in range(2000)),
    ]
    upper = [make_entry(f"d/e/{number}") for number in range(2000)]
    again = [make_entry("d/.wh..wh..opq"), whiteout("d/e"), make_entry("d/e/.wh..wh..opq")] * 2000
    tree = merge(lower, [*upper, *again])
    assert len(tree.children) == 3 and listing(tree).count(" ") == 2001


def test_number_of_entries_is_limited(merge: Merge) -> None:
    with pytest.raises(InvalidInput, match="too many files"):
        merge([make_entry("f")] * 4, limits=Limits(entries=3))
    labelled = make_entry("f", pax={"SCHILY.xattr.user.big": "x" * 60_000})
    with pytest.raises(InvalidInput, match="too many files"):
        merge([labelled] * 4, limits=Limits(entries=900))
    merge([labelled] * 4, limits=Limits(entries=1000))


def test_127_layers(merge: Merge) -> None:
    tree = merge(
        *([make_entry("f", content=b"%d" % number), make_entry(f"g{number}")] for number in range(127))
    )
    assert text(tree, "f") == b"126"
    assert len(listing(tree).split()) == 128


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_compressed_layers_give_the_same_tree(compression: str, tmp_path: Path) -> None:
    base = make_layer(
        make_entry("f", content=bytes(range(256)) * 9000), make_entry("z", content=bytes(3 << 20))
    )
    layout = write_layout(tmp_path / "layout", [base, make_layer(make_entry("g", LINK, link="f")), base],
                          compression=compression)  # fmt: skip
    with ExitStack() as stack:
        image = open_oci_layout(layout, stack)
        tree = merge_layers(image, stack, SilentMonitor())
        image.verify()
        assert text(tree, "f") == bytes(range(256)) * 9000
        assert text(tree, "g") == text(tree, "f")
        assert text(tree, "z") == bytes(3 << 20)
        assert len(tree.sources) <= 3


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("damage", ["flip", "cut", "other"])
def test_damaged_layers_never_pass(compression: str, damage: str, tmp_path: Path) -> None:
    layer = make_layer(make_entry("f", content=os.urandom(5000)), make_entry("g", content=b"x" * 5000))
    stored = compress(layer, compression)
    layout = write_layout(tmp_path / "layout", [layer], compression=compression)
    blob = layout / "blobs" / "sha256" / digest_of(stored).removeprefix("sha256:")
    changed = bytearray(stored)
    changed[len(changed) // 3] ^= 0x10
    other = compress(make_layer(make_entry("f", content=b"evil" * 3000)), compression).ljust(
        len(stored), b"\0"
    )
    blob.write_bytes(
        {"flip": bytes(changed), "cut": stored[: len(stored) // 2], "other": other[: len(stored)]}[damage]
    )
    with pytest.raises(InvalidInput, match="layer 1"), ExitStack() as stack:
        image = open_oci_layout(layout, stack)
        merge_layers(image, stack, SilentMonitor())
        image.verify()


def test_wrong_diff_id_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blob is what its digest says, but not what the config says that it unpacks to."""
    other = gzip.compress(make_layer(make_entry("g")))
    monkeypatch.setattr(oci_images, "compress", lambda layer, compression: other)
    layout = write_layout(tmp_path / "layout", [make_layer(make_entry("f"))], compression="gzip")
    with pytest.raises(InvalidInput, match="not what its digest promises"), ExitStack() as stack:
        merge_layers(open_oci_layout(layout, stack), stack, SilentMonitor())


def test_gzip_bomb_is_stopped_and_zeros_take_no_room(tmp_path: Path) -> None:
    layer = make_layer(make_entry("zeros", content=bytes(24 << 20)))
    layout = write_layout(tmp_path / "layout", [layer], compression="gzip")
    with pytest.raises(InvalidInput, match="grow beyond 12 MiB"), ExitStack() as stack:
        merge_layers(open_oci_layout(layout, stack), stack, SilentMonitor(), Limits(spool_bytes=12 << 20))
    with ExitStack() as stack:
        tree = merge_layers(open_oci_layout(layout, stack), stack, SilentMonitor())
        assert os.fstat(tree.sources[0]).st_blocks * 512 < 4 << 20


def test_a_failure_ends_the_threads_before_their_files_are_closed(tmp_path: Path) -> None:
    """The last layer would inflate for seconds; a thread that went on would write to descriptors of others."""
    bad = make_layer(make_entry("l", LINK, link="missing"))
    slow = make_layer(make_entry("zeros", content=bytes(60 << 20)))
    layout = write_layout(tmp_path / "layout", [bad, slow], compression="gzip")
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    with pytest.raises(InvalidInput, match="layer 1 of 2"), ExitStack() as stack:
        merge_layers(open_oci_layout(layout, stack), stack, SilentMonitor())
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (descriptors, threads)
