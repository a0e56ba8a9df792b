"""Files that claim a gigabyte or hold hundreds of megabytes: refused for what they are, and never held (a fresh process shows the peak)."""

import gzip
import json
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from make_media import image_bytes, quarters
from test_sources import members

from ernie5.data_pipelines.write_shards import ShardWriter, index_path

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
GB, LARGE = 2**30, 2**28 + 2**20
MEASURE = """
import json, re, sys
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.sources import SourceConfig, open_source
import ernie5.data_pipelines.decode_image, ernie5.data_pipelines.source_jsonl, ernie5.data_pipelines.source_shards
found = {}
def peak():  # of this process alone: ru_maxrss begins with that of the process that started it
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
for path in sys.argv[1:]:
    before, said, good = peak(), [], 0
    try:
        source = open_source("s", SourceConfig(path))
        said += [reason for _, reason in source.problems]
        for i in range(len(source)):
            try:
                decode_record(source.read(i), MediaLimits())
                good += 1
            except ValueError as error:
                said.append(str(error))
    except ValueError as error:
        said.append(str(error))
    found[path.rpartition("/")[2]] = [" | ".join(said), good, peak() - before]
before, held = peak(), b"x" * 2**28
found["control"] = ["", 0, peak() - before]
print(json.dumps(found))
"""


def hollow_tar(path: Path, name: str, size: int, claims_only: bool = False) -> None:
    """A tar with two good texts, and between them a member of `size` bytes that is a hole on the disk, or only claimed."""
    with open(path, "wb") as file:
        for member, length in (("a.txt", 4), (name, size), ("c.txt", 4)):
            info = tarfile.TarInfo(member)
            info.size = length
            file.write(info.tobuf(tarfile.USTAR_FORMAT))
            if member != name:
                file.write(b"good" + bytes(508))
            elif not claims_only:
                file.seek(-(-length // 512) * 512, 1)
        file.write(bytes(1024))


def png_with_compressed_text(size: int) -> bytes:
    """A good picture whose comment unpacks to `size` letters."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b"x" * 2**20) for _ in range(size // 2**20)) + packer.flush()
    body = b"zTXtcomment\0\0" + packed
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    picture = image_bytes(quarters(), "PNG")
    return picture[:33] + chunk + picture[33:]  # behind IHDR


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, list]:
    """name -> reasons, good samples, growth of the peak of memory in MiB."""
    out = tmp_path_factory.mktemp("bombs")
    hollow_tar(out / "json.tar", "b.json", LARGE)
    hollow_tar(out / "text.tar", "b.txt", LARGE)
    hollow_tar(out / "claim.tar", "b.txt", GB, claims_only=True)
    with open(out / "line.jsonl", "wb") as file:
        file.write(b'{"text": "a"}\n{"text": "')
        file.seek(LARGE, 1)
        file.write(b'"}\n{"text": "c"}\n')
    with open(out / "gzip.tar", "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        for _ in range(64):
            packed.write(bytes(2**22))
    with zipfile.ZipFile(out / "zip.tar", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        packed.writestr("a.txt", bytes(2**26))
    with ShardWriter(out / "index", "demo") as writer:
        writer.write("000", members(0), {})
    with open(index_path(writer.shards[0]), "r+b") as file:
        file.truncate(GB)
    with tarfile.open(out / "picture.tar", "w") as tar:
        (out / "b.png").write_bytes(png_with_compressed_text(2**28))
        tar.add(out / "b.png", "b.png")
    paths = [*sorted(out.glob("*.tar")), out / "line.jsonl", out / "index"]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MEASURE, *paths], capture_output=True, text=True, check=True, cwd=ROOT)
    shutil.rmtree(out)
    return json.loads(done.stdout)


def test_the_peak_is_seen(found) -> None:
    assert found["control"][2] > 100


@pytest.mark.parametrize(("name", "good", "said"), [
    ("json.tar", 2, "more than the 4194304 that are read"),
    ("text.tar", 2, "more than the 268435456 that are read"),
    ("claim.tar", 1, "incomplete"),
    ("line.jsonl", 2, "more than the 4194304 that are read"),
    ("gzip.tar", 0, "not a plain tar"),
    ("zip.tar", 0, "not a plain tar"),
    ("index", 0, "1073741824 bytes, more than 268435456"),
    ("picture.tar", 0, "too large for PngImagePlugin.MAX_TEXT_CHUNK"),
])
def test_bombs_are_refused_and_cost_no_memory(found, name, good, said) -> None:
    reasons, samples, mib = found[name]
    assert said in reasons and samples == good and mib < 100, found[name]
