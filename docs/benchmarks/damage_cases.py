"""Corruptions of a folder of shards, each drawn from a random generator. Every function changes the folder and says what it did.

    INDEXED    damage to shards and the index beside them: whatever happens to one of both must be noticed
    KEPT       damage to the binary index that was made at an earlier opening
    RESUMED    tars without an index that a run began on: whatever happens to them before it goes on must be noticed
    FOREIGN    tars without an index: their structure is damaged (the content of a tar that nobody ever indexed cannot be known)
    MEMBERS    shards that are whole, with members that are not what they say
    UNKNOWABLE flipped bits in media of formats without a checksum, before the index was made: only cost and form can be held
"""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from damage_world import SHARDS, Stored, bad_json, bombs, info_of, plain_members, tar_bytes, write, zipped

from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality

Random = np.random.Generator
Damage = Callable[[Path, Random, Stored], str]
NAMES = ("../x.txt", "../../../../tmp/x.txt", "/etc/x.txt", "a/../../x.txt", "x\0y.txt", "x" * 300 + ".txt", "a\\..\\x.txt", "x\n.txt",
         "\x1b[31mx.txt", "x\u202etxt.txt", ".txt", "x", "a/" * 140 + "x.txt", "./../x.txt", "a/./../x.txt", "//x.txt")
LIES = (-1, 0, 1, 511, 2**31, 2**40, 2**63 - 1, 2**64, 1e308, 0.5, "0", "../x", "x\0y", "", None, True, [], {}, [[]], "x" * 400)
CHECKED = ("png", "flac", "ogg")  # formats that carry checksums of their content
BOMBS: dict[str, Member] = {}


def choose(random: Random, options):
    """One of them."""
    return options[int(random.integers(len(options)))]


def flip(data: bytes, random: Random, start: int = 0, stop: int | None = None) -> bytes:
    """1 to 8 bits turned over between start and stop."""
    changed = bytearray(data)
    for at in random.integers(start, len(data) if stop is None else stop, int(random.integers(1, 9))):
        changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed)


def scramble(data: bytes, random: Random) -> bytes:
    """What discs, networks and people do to a file as a whole."""
    at, size = int(random.integers(len(data))), int(random.integers(1, 4096))
    ways = (lambda: data[:at], lambda: b"", lambda: data[at:], lambda: random.bytes(len(data)), lambda: data + random.bytes(size),
            lambda: data[:at] + random.bytes(size) + data[at + size:], lambda: data[:at] + bytes(size) + data[at + size:],
            lambda: data[:at] + data[at + size:], lambda: data[:at] + random.bytes(size) + data[at:],
            lambda: data[:at] + data[at:at + size] + data[at:])
    return choose(random, ways)()


def bits(paths: list[Path], random: Random) -> str:
    """Flip some bits of one of the files."""
    path = choose(random, paths)
    path.write_bytes(flip(path.read_bytes(), random))
    return f"bits of {path.name}"


def scrambled(paths: list[Path], random: Random) -> str:
    """Cut, repeat or overwrite a part of one of the files."""
    path = choose(random, paths)
    path.write_bytes(scramble(path.read_bytes(), random))
    return f"{path.name} scrambled"


def tar_bits(folder: Path, random: Random, stored: Stored) -> str:
    return bits(sorted(folder.glob("*.tar")), random)


def tar_scrambled(folder: Path, random: Random, stored: Stored) -> str:
    return scrambled(sorted(folder.glob("*.tar")), random)


def index_bits(folder: Path, random: Random, stored: Stored) -> str:
    return bits(indexes(folder), random)


def index_scrambled(folder: Path, random: Random, stored: Stored) -> str:
    return scrambled(indexes(folder), random)


def index_lie(folder: Path, random: Random, stored: Stored) -> str:
    """A JSON index in which a value is another one, or a list lost, repeated or swapped some of its items."""
    path = choose(random, indexes(folder))
    try:
        tree = json.loads(path.read_bytes())
    except ValueError:
        return index_bits(folder, random, stored)
    leaves: list[tuple[list | dict, int | str]] = []
    lists: list[list] = []
    waiting: list[list | dict] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list) and node:
            lists.append(node)
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, list | dict):
                waiting.append(value)
            else:
                leaves.append((node, key))
    node, key = choose(random, leaves)
    match int(random.integers(4)):
        case 0:
            node[key] = choose(random, LIES)
        case 1:  # a value that stands elsewhere under the same name: another's key, offset, length, checksum
            other, place = choose(random, [(n, k) for n, k in leaves if k == key or isinstance(k, int) and isinstance(key, int)])
            node[key], other[place] = other[place], node[key]
        case 2:
            items = choose(random, lists)
            a, b = random.integers(0, len(items), 2)
            items[a], items[b] = items[b], items[a]
        case _:
            items = choose(random, lists)
            at = int(random.integers(len(items)))
            items[at:at + 1] = [] if random.random() < 0.5 else [items[at]] * 2
    path.write_text(json.dumps(tree))
    return f"a lie in {path.name}"


def bodies_swapped(folder: Path, random: Random, stored: Stored) -> str:
    """The bytes of two members change places within the tar."""
    path = choose(random, sorted(folder.glob("*.tar")))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        a, b = (choose(random, tar.getmembers()) for _ in range(2))
    size = min(a.size, b.size)
    one, two = (bytes(data[m.offset_data:m.offset_data + size]) for m in (a, b))
    data[a.offset_data:a.offset_data + size], data[b.offset_data:b.offset_data + size] = two, one
    path.write_bytes(data)
    return f"{a.name} and {b.name} swapped"


def files_swapped(folder: Path, random: Random, stored: Stored) -> str:
    """Two files of the folder change places, or one takes the place of the other, or is gone."""
    a, b = (choose(random, sorted(path for path in folder.iterdir() if path.is_file())) for _ in range(2))
    one, two = a.read_bytes(), b.read_bytes()
    b.write_bytes(one)
    match int(random.integers(3)):
        case 0:
            a.write_bytes(two)
        case 1 if a != b:
            a.unlink()
    return f"{a.name} and {b.name} swapped"


def kept_bits(folder: Path, random: Random, stored: Stored) -> str:
    return bits(kept(folder), random)


def kept_scrambled(folder: Path, random: Random, stored: Stored) -> str:
    return scrambled(kept(folder), random)


def kept_swapped(folder: Path, random: Random, stored: Stored) -> str:
    """The index of one shard in the place of another's, or 10 MB of something else."""
    a, b = (choose(random, kept(folder)) for _ in range(2))
    size = int(random.integers(10_000_000))
    a.write_bytes(choose(random, (b.read_bytes, lambda: bytes(size), lambda: a.read_bytes()[:8] + bytes(size) + a.read_bytes()[-28:]))())
    return f"{a.name} replaced"


def indexes(folder: Path) -> list[Path]:
    """The index beside each tar."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".json")


def kept(folder: Path) -> list[Path]:
    """The indexes that opening the folder left there."""
    return sorted(path for path in folder.glob(".*/*") if path.is_file() and path.stat().st_size)


def foreign_headers(folder: Path, random: Random, stored: Stored) -> str:
    """Bits of one header block, anywhere in it or where its numbers are."""
    path = choose(random, sorted(folder.glob("*.tar")))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        start = choose(random, tar.getmembers()).offset
    data[start:start + 512] = flip(bytes(data[start:start + 512]), random, *((0, 512) if random.random() < 0.5 else (100, 157)))
    path.write_bytes(data)
    return f"header at {start}"


def foreign_cut(folder: Path, random: Random, stored: Stored) -> str:
    path = choose(random, sorted(folder.glob("*.tar")))
    path.write_bytes(path.read_bytes()[:int(random.integers(path.stat().st_size))])
    return f"{path.name} cut"


def foreign_names(folder: Path, random: Random, stored: Stored) -> str:
    """A member of a hostile name or kind somewhere in the tar."""
    members = plain_members(stored, SHARDS[0])
    kind = choose(random, (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                           tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.DIRTYPE, b"9"))
    name = choose(random, NAMES if kind == tarfile.REGTYPE else (*NAMES, "new.txt", "new.0.txt"))
    data = b"a wrong text" if kind == tarfile.REGTYPE else b""
    info = info_of(name, len(data), kind, choose(random, ("/etc/passwd", "000.txt")))
    members.insert(int(random.integers(len(members) + 1)), (info, data))
    (folder / f"{SHARDS[0]}.tar").write_bytes(tar_bytes(members, choose(random, (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))))
    return f"{kind!r} {name[:40]!r}"


def foreign_order(folder: Path, random: Random, stored: Stored) -> str:
    """Members twice, missing from their neighbours, or in an odd place."""
    members = plain_members(stored, SHARDS[0])
    a, b = random.integers(0, len(members), 2)
    if random.random() < 0.5:
        members.insert(int(b), members[int(a)])
    else:
        members.insert(int(b), members.pop(int(a)))
    (folder / f"{SHARDS[0]}.tar").write_bytes(tar_bytes(members))
    return f"member {a} at {b}"


def foreign_hole(folder: Path, random: Random, stored: Stored) -> str:
    """A header block of zeros, which looks like the end of the tar; or a second tar behind the first."""
    path = choose(random, sorted(folder.glob("*.tar")))
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        start = choose(random, tar.getmembers()).offset
    if random.random() < 0.3:
        path.write_bytes(data + data)
        return f"{path.name} twice in one file"
    path.write_bytes(data[:start] + bytes(512) + data[start + 512:])
    return f"no header at {start}"


def foreign_long(folder: Path, random: Random, stored: Stored) -> str:
    """An extended header of 9 MB, or one that claims terabytes."""
    path = choose(random, sorted(folder.glob("*.tar")))
    size = int(random.integers(8_000_000, 10_000_000))
    claim = choose(random, (size, size, 2**33 - 1, 2**40))
    kind = choose(random, (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK))
    body = b"%d path=" % size + b"x" * (size - len(b"%d path=\n" % size)) + b"\n" + bytes(-size % 512)
    long = info_of("x", claim, kind).tobuf(tarfile.GNU_FORMAT) + body
    path.write_bytes(long + info_of("zzz.txt").tobuf(tarfile.GNU_FORMAT) + path.read_bytes())
    return f"{kind!r} of {claim} bytes"


def index_bomb(folder: Path, random: Random, stored: Stored) -> str:
    """An index of 20 MB, deep or wide."""
    path, size = choose(random, indexes(folder)), 20_000_000
    old = path.read_bytes()
    path.write_bytes(choose(random, (lambda: b"[" * size, lambda: b"[" + b"0," * (size // 2) + b"0]", lambda: old + b" " * size,
                                     lambda: b'{"samples": [' + b"{}," * (size // 3) + b"{}]}", lambda: b"9" * size,
                                     lambda: old[:-1] + b', "x": "' + b"x" * size + b'"}', lambda: gzip.compress(bytes(size), 1)))())
    return f"{path.name} of {path.stat().st_size} bytes, {path.read_bytes()[:20]!r}"


def foreign_wrapped(folder: Path, random: Random, stored: Stored) -> str:
    """No plain tar at all."""
    path = choose(random, sorted(folder.glob("*.tar")))
    path.write_bytes(choose(random, (lambda d: gzip.compress(d, 1), zipped, lambda d: b"", lambda d: random.bytes(len(d)),
                                     lambda d: bytes(len(d)), lambda d: b"\xff" * len(d)))(path.read_bytes()))
    return f"{path.name} wrapped"


def rewritten(folder: Path, stored: Stored, name: str, number: int, member: Member) -> None:
    """The same shards with one other member, indexed as if it were right."""
    members, attributes = stored[name]
    changed = tuple(member if i == number else m for i, m in enumerate(members))
    for path in folder.iterdir():
        path.unlink()
    write(folder, stored | {name: (changed, attributes)})


def a_medium(random: Random, stored: Stored, endings: tuple[str, ...] = ()) -> tuple[str, int, Member]:
    """Sample name, member number, member."""
    found = [(name, i, m) for name, (members, _) in stored.items() for i, m in enumerate(members)
             if m.modality is not Modality.TEXT and (not endings or m.extension in endings)]
    return choose(random, found)


def member_cut(folder: Path, random: Random, stored: Stored) -> str:
    name, number, member = a_medium(random, stored)
    size = len(member.data)
    keep = int(random.integers(size)) if random.random() < 0.7 else size - int(random.integers(1, min(size, 64)))
    rewritten(folder, stored, name, number, replace(member, data=member.data[:keep]))
    return f"{member.extension} cut to {keep} of {size} bytes"


def member_bomb(folder: Path, random: Random, stored: Stored) -> str:
    BOMBS.update(BOMBS or bombs())
    kind = choose(random, sorted(BOMBS))
    name, number, _ = a_medium(random, stored)
    rewritten(folder, stored, name, number, BOMBS[kind])
    return kind


def member_swapped(folder: Path, random: Random, stored: Stored) -> str:
    """A medium where another kind of medium should be."""
    name, number, member = a_medium(random, stored)
    others = [m for _, (members, _) in stored.items() for m in members if m.modality is not member.modality]
    other = choose(random, others)
    rewritten(folder, stored, name, number, replace(member, data=other.data))
    return f"{other.extension} called {member.extension}"


def member_bits_checked(folder: Path, random: Random, stored: Stored) -> str:
    name, number, member = a_medium(random, stored, CHECKED)
    rewritten(folder, stored, name, number, replace(member, data=flip(member.data, random)))
    return f"bits of a {member.extension}"


def member_bits_unchecked(folder: Path, random: Random, stored: Stored) -> str:
    name, number, member = a_medium(random, stored, tuple({m.extension for s in stored.values() for m in s[0]} - {*CHECKED, "txt"}))
    rewritten(folder, stored, name, number, replace(member, data=flip(member.data, random)))
    return f"bits of a {member.extension}"


def header_json(folder: Path, random: Random, stored: Stored) -> str:
    """A sample's json that costs much or says nonsense, in a foreign tar."""
    members = plain_members(stored, SHARDS[0])
    at = choose(random, [i for i, (info, _) in enumerate(members) if info.name.endswith(".json")])
    data = bad_json(random)
    members[at] = (info_of(members[at][0].name, len(data)), data)
    (folder / f"{SHARDS[0]}.tar").write_bytes(tar_bytes(members))
    return f"json {data[:60]!r}"


INDEXED: tuple[Damage, ...] = (tar_bits, tar_scrambled, index_bits, index_scrambled, index_lie, bodies_swapped, files_swapped, index_bomb)
KEPT: tuple[Damage, ...] = (kept_bits, kept_scrambled, kept_swapped)
RESUMED: tuple[Damage, ...] = (tar_bits, tar_scrambled, bodies_swapped)
FOREIGN: tuple[Damage, ...] = (foreign_headers, foreign_cut, foreign_names, foreign_order, foreign_wrapped, foreign_hole, foreign_long,
                               header_json)
MEMBERS: tuple[Damage, ...] = (member_cut, member_bomb, member_swapped, member_bits_checked)
UNKNOWABLE: tuple[Damage, ...] = (member_bits_unchecked,)
