"""Far away data: the same records as here, a bounded cache that processes may share, clear errors, no secrets in them."""

import functools
import http.server
import logging
import os
import pickle
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from test_sources import members, read_all, tar_of

from ernie5.data_pipelines import data_files, remote_files, remote_store
from ernie5.data_pipelines.data_files import Stamp
from ernie5.data_pipelines.remote_store import RemoteStore, Unreachable
from ernie5.data_pipelines.sources import SourceConfig, open_source
from ernie5.data_pipelines.write_shards import ShardWriter

fsspec = pytest.importorskip("fsspec")
SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    for module in (data_files, remote_files):
        monkeypatch.setattr(module, "SETTLED_S", -1.0)
    monkeypatch.setattr(remote_store, "WAITS_S", (0.0, 0.0))
    return home / "ernie5"


@pytest.fixture
def shards(tmp_path):
    with ShardWriter(tmp_path / "data", "demo", samples_per_shard=4) as writer:
        for i in range(10):
            writer.write(f"{i:03d}", members(i), {"i": i})
    tar_of(tmp_path / "data" / "web.tar", [(f"{i}.{e}", bytes([65 + i]) * 700) for i in range(3) for e in ("jpg", "txt")])
    (tmp_path / "data" / "lines.jsonl").write_text('{"text": "far"}\n{"text": "away"}\n')
    return tmp_path / "data"


@pytest.fixture
def memory(shards):
    """The same files in fsspec's memory://."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for path in shards.iterdir():
        system.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    yield system
    system.store.clear()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `?status=N` answers with that error, a wrong password with 401, `cut` sends half of a tar."""

    asked: list[str] = []
    cut = False
    status = 0

    def do_GET(self):
        self.asked.append(self.path)
        if self.status:
            self.send_error(self.status)
        elif self.cut and self.path.split("?")[0].endswith(".tar"):
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
        else:
            super().do_GET()

    def do_HEAD(self):
        self.send_error(self.status) if self.status else super().do_HEAD()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(shards):
    pytest.importorskip("aiohttp")
    Handler.asked, Handler.cut, Handler.status = [], False, 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(shards))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def far(path, gib=1.0, **more):
    return open_source("s", SourceConfig(path, disk_gib=gib, **more))


def tars_asked():
    return [p for p in Handler.asked if p.split("?")[0].endswith(".tar")]


def copies(home):
    return sorted((home / "remote").rglob("*.copy"))


@pytest.mark.parametrize("path", ["memory://bucket/demo-*.tar", "memory://bucket/demo-{000000..000002}.tar", "memory://bucket/web.tar"])
def test_the_same_records_as_here(memory, shards, path):
    here = open_source("s", SourceConfig(path.replace("memory://bucket", str(shards))))
    there = far(path)
    assert [there.read(i) for i in range(len(there))] == [here.read(i) for i in range(len(here))] and len(here) > 2
    assert there.fingerprints == here.fingerprints and there.fingerprint == here.fingerprint
    assert pickle.loads(pickle.dumps(there)).read(2) == here.read(2)


def test_folders_and_lines(memory):
    memory.pipe_file("/own/a.jsonl", b'{"text": "x"}\n')
    assert far("memory://own").read(0).id == "s/a/00000000"
    assert far("memory://bucket/lines.jsonl").read(1).members[0].data == b"away"
    for path in ("memory://bucket/none-*.tar", "memory://bucket/none.tar", "memory://nowhere", "memory://bucket/demo-000000.index.json"):
        with pytest.raises(ValueError, match="source 's' has no shards at memory://"):
            far(path)


def test_opening_fetches_no_shard_that_has_an_index(memory, home, monkeypatch):
    source = far("memory://bucket/demo-*.tar")
    assert len(source) == 10 and all(p.read_bytes()[:1] == b"{" for p in copies(home))
    fetched = []
    monkeypatch.setattr(remote_store, "_download", lambda url, *rest: fetched.append(url))
    assert len(far("memory://bucket/demo-*.tar")) == 10 and not fetched


def test_the_cache_is_bounded_and_the_oldest_go_first(memory, shards, home):
    size = (shards / "demo-000000.tar").stat().st_size
    index = sum((shards / f"demo-00000{i}.index.json").stat().st_size for i in range(3))
    source = far("memory://bucket/demo-*.tar", gib=(2 * size + 0.5 * index) / 2**30)
    for i in [0, 4, 8, 0, 4, 8, 9, 1]:
        assert source.read(i).members == members(i)
        source._files._open.drop(i // 4)
        used = sum(p.stat().st_size for p in copies(home))
        assert 0 < used <= 2 * size + 0.5 * index
    assert not list((home / "remote").rglob("*.part"))
    with pytest.raises(ValueError, match="web.tar has .* more than data.sources.s.disk_gib = .* allows; raise it"):
        far("memory://bucket/web.tar", gib=1000 / 2**30)


def test_an_evicted_copy_comes_back(memory, home):
    source = far("memory://bucket/demo-*.tar")
    source.read(0)
    for copy in copies(home):
        copy.unlink()
    assert source.read(1).members == members(1) and source.read(5).members == members(5)


def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_is_refused(memory, home):
    source = far("memory://bucket/demo-*.tar")
    source.read(0)
    (tar,) = [p for p in copies(home) if p.read_bytes()[:1] != b"{"]
    tar.write_bytes(bytes(tar.stat().st_size))
    assert source.read(1).members == members(1)
    bad = bytearray(memory.cat_file("/bucket/web.tar"))
    source = far("memory://bucket/web.tar")
    bad[bad.index(b"B" * 9)] ^= 1
    [p.write_bytes(bytes(bad)) for p in copies(home) if p.stat().st_size == len(bad)]
    assert len(read_all(source)[0]) == 3
    memory.pipe_file("/bucket/web.tar", bytes(bad))
    [p.write_bytes(bytes(bad)) for p in copies(home) if p.stat().st_size == len(bad)]
    records, damaged = read_all(source)
    assert list(damaged) == [1] and len(records) == 2


def test_other_data_under_the_same_name_is_refused_on_resume(memory):
    for path, key, stem in (("memory://bucket/web.tar", "/bucket/web.tar", "web"),
                            ("memory://bucket/demo-*.tar", "/bucket/demo-000001.index.json", "demo-000001")):
        saved = far(path).fingerprints
        changed = memory.cat_file(key).replace(b"A" * 700, b"Z" * 700).replace(b'"005"', b'"00x"')
        if key.endswith(".json"):
            changed = b'{"crc32":%d,%b' % (zlib.crc32(body := changed[changed.index(b",") + 1 :]), body)
        memory.pipe_file(key, changed)
        with pytest.raises(ValueError, match=f"shard '{stem}' of source 's' was changed"):
            far(path).check_unchanged(saved)


def test_over_http(server, shards, home):
    source = far(f"{server}/demo-{{000000..000002}}.tar")
    assert [source.read(i).members for i in range(10)] == [members(i) for i in range(10)]
    assert source.fingerprints == open_source("s", SourceConfig(str(shards / "demo-*.tar"))).fingerprints
    assert len(tars_asked()) == 3
    again = far(f"{server}/demo-{{000000..000002}}.tar?token={SECRET}")
    assert again.read(3) == source.read(3) and len(tars_asked()) == 3 and len(copies(home)) == 6
    with pytest.raises(ValueError, match="no shards at .*/none.tar: there is no such file"):
        far(f"{server}/none.tar")


@pytest.mark.parametrize(("fault", "says"), [("down", "Connect"), ("cut", "cannot be read"), ("401", "401.*credentials"),
                                             ("503", "503.*network")])
def test_faults_of_networks_are_clear_and_no_damaged_sample(server, fault, says, caplog, monkeypatch):
    host = server.removeprefix("http://")
    url = f"http://me:{SECRET}@{'127.0.0.1:9' if fault == 'down' else host}/web.tar?sig={SECRET}"
    Handler.cut = fault == "cut"
    Handler.status = int(fault) if fault.isdecimal() else 0
    with caplog.at_level(logging.DEBUG, "ernie5"), pytest.raises(Unreachable, match=f"(?s){says}") as caught:
        far(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {error.__dict__}" and error.__cause__ is None
        error = None if error.__suppress_context__ else error.__context__
    assert "127.0.0.1" in str(caught.value) and SECRET not in caplog.text
    Handler.status = 0
    if fault == "401":  # an outage in the middle of a run
        source = far(f"{server}/demo-000000.tar")
        Handler.status = 503
        with pytest.raises(ConnectionError, match="503"):
            source.read(0)
        Handler.status = 0
        assert source.read(0).members == members(0)


def test_a_server_that_stumbles_is_asked_again(memory, monkeypatch):
    real, calls = remote_store._download, []

    def stumble(*arguments):
        calls.append(1)
        if len(calls) < 3:
            raise TimeoutError(f"https://me:{SECRET}@host")
        return real(*arguments)

    monkeypatch.setattr(remote_store, "_download", stumble)
    assert len(far("memory://bucket/web.tar")) == 3 and len(calls) == 3


def test_secrets_come_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("DATA_PASSWORD", SECRET)
    source = far(server.replace("://", "://me:$DATA_PASSWORD@") + "/web.tar")
    assert source.read(0).id == "s/web/0" and SECRET not in str(source._files.files)
    with pytest.raises(ValueError, match=r"write \$NAME"):
        far("https://***@host/a.tar")


@pytest.mark.parametrize(("path", "says"), [("smoke://x/a.tar", "smoke:// cannot be read"), ("zip::http://u:pw@x/a.tar", "without '::'"),
                                            ("http://x/a.zip", "no shards at http://x/a.zip")])
def test_paths_that_nobody_can_read(path, says, monkeypatch):
    monkeypatch.setattr(remote_files, "_ask_or_none", lambda *_: None)
    with pytest.raises(ValueError, match=says) as caught:
        far(path)
    assert "pw" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_no_damaged_sample(memory, home):
    home.write_text("")
    with pytest.raises(ConnectionError, match="cannot be kept in .*; set XDG_CACHE_HOME"):
        far("memory://bucket/web.tar")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ValueError, match=r"http:// needs more packages .*pip install 'ernie5\[remote\]'"):
        far("http://host/a.tar")


def test_processes_share_a_cache(shards, home):
    tar = shards / "web.tar"
    code = f"""
from pathlib import Path
from ernie5.data_pipelines.remote_store import RemoteStore, Stamp
store = RemoteStore(Path({str(home)!r}) / "remote", 3 * {tar.stat().st_size}, "disk_gib")
for i in range(200):
    path = store.fetch("file://{tar}", f"name-{{i % 5}}", Stamp("1", True), {tar.stat().st_size})
    try:
        assert path.read_bytes() == Path({str(tar)!r}).read_bytes()
    except FileNotFoundError:
        pass  # the other one needed the room
"""
    root = Path(data_files.__file__).parents[2]
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[1] for process in running] == ["", ""]
    assert 0 < len(copies(home)) <= 3 and not list(home.rglob("*.part"))


def test_threads_that_need_one_file_fetch_it_once(tmp_path, monkeypatch):
    fetched = []

    def download(url, shown, partial, size):
        fetched.append(url)
        partial.write_bytes(b"x" * size)

    monkeypatch.setattr(remote_store, "_download", download)
    store = RemoteStore(tmp_path / "c", 100, "disk_gib")
    threads = [threading.Thread(target=store.fetch, args=(f"u{i % 2}", f"u{i % 2}", Stamp("1", True), 40)) for i in range(8)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert sorted(fetched) == ["u0", "u1"] and len(list((tmp_path / "c").glob("*.copy"))) == 2
    os.utime(store.fetch("u1", "u1", Stamp("1", True), 40), (1, 1))
    store.fetch("u2", "u2", Stamp("1", True), 40)
    fetched.clear()
    store.fetch("u0", "u0", Stamp("1", True), 40)
    assert not fetched
    store.fetch("u0", "u0", Stamp("2", False), 40)
    assert fetched == ["u0"]
