"""A run whose tokenizers are served by another process is the same run, bit for bit, also when that process is killed in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from micro_run import MicroRun, micro_recipe, run_micro, same_run

from ernie5.cli.main import main
from ernie5.config import load_config
from ernie5.recipe import Recipe
from ernie5.tokenizers.remote.address import Address
from ernie5.tokenizers.remote.server import Server, ServerConfig
from ernie5.train import loop
from ernie5.train.prepare import load_tokenizers
from ernie5.train.served import open_tokenizers

ALWAYS = ("data.encode_ahead=0", "data.cache_gib=0.00001")  # every sample is encoded whenever it is drawn


def start(run: Path, port: int = 0) -> subprocess.Popen:
    words = ["tokenizer", "serve", str(run), "--kind", "vision", "audio", "--port", str(port), "--threads", "1"]
    return subprocess.Popen([sys.executable, "-m", "ernie5", *words], stdout=subprocess.PIPE, text=True)


def port_of(service: subprocess.Popen) -> int:
    """From its first screen."""
    for line in service.stdout:
        if line.startswith("address"):
            return int(line.split()[1].rpartition(":")[2])
    raise AssertionError("it ended at once")


@contextmanager
def serving(run: MicroRun) -> Iterator[int]:
    """A service of all kinds in this process; its port."""
    server = Server(open_tokenizers(run.folder), Address("127.0.0.1", 0), None, ServerConfig(threads=2))
    try:
        yield server.address.port
    finally:
        server.close()


def served(run: MicroRun, folder: Path, port: int, *more: str) -> Recipe:
    places = [f"tokenizers.services.{kind}=tcp://127.0.0.1:{port}" for kind in ("vision", "audio")]
    return micro_recipe(folder, run.folder, *ALWAYS, *places, *more)


def test_a_service_that_is_killed_in_the_middle_changes_nothing(micro, tmp_path, capfd) -> None:
    services = [start(micro.folder)]
    port, original = port_of(services[0]), loop.train_step

    def killing(run, config, world):
        if run.step == 2:
            services[0].kill()
            services[0].wait()
            services.append(start(micro.folder, port))
        return original(run, config, world)

    try:
        with mock.patch.object(loop, "train_step", killing):
            run = run_micro(served(micro, tmp_path / "run", port))
        services[1].send_signal(signal.SIGTERM)
        assert services[1].wait(60) == 0
    finally:
        for service in services:
            service.kill()
            service.wait()
            service.stdout.close()
    same_run(run, micro)
    said = capfd.readouterr().err
    assert "vision served at tcp://127.0.0.1" in said and "cannot be used" in said and "answers again" in said
    assert "SIGTERM: answering what is under way" in said and " of work each" in said


def test_workers_and_all_kinds(micro, tmp_path) -> None:
    with serving(micro) as port:
        run = run_micro(served(micro, tmp_path / "run", port, f"tokenizers.services.text=tcp://127.0.0.1:{port}", "data.workers=2"))
        same_run(run, micro)
        recipe = load_config(Recipe, run.folder / "recipe.yaml")
        assert recipe.tokenizers.services["text"] == f"tcp://127.0.0.1:{port}"
        local, far = load_tokenizers(micro_recipe(tmp_path / "x", micro.folder)), load_tokenizers(recipe)
        assert [getattr(local, kind).fingerprint for kind in ("text", "vision", "audio")] == [
            getattr(far, kind).fingerprint for kind in ("text", "vision", "audio")]
        with pytest.raises(ValueError, match="codec.sample_rate_hz = 8000 must be 16000"):
            load_tokenizers(served(micro, tmp_path / "x", port, "tokenizers.audio.codec.sample_rate_hz=8000"))
        with pytest.raises(ValueError, match="num_layers = 2 must be at least the 3 audio codebooks"):
            run_micro(served(micro, tmp_path / "shallow", port, "model.num_layers=2"))


def test_sizes_before_there_are_tokenizers_come_from_the_service(micro, tmp_path) -> None:
    from ernie5.train.assemble import planned_vocabulary, vocabulary_of

    with serving(micro) as port:
        recipe = served(micro, tmp_path, port, f"tokenizers.services.text=tcp://127.0.0.1:{port}", "tokenizers.vision.bits=16",
                        "tokenizers.audio.codec.codebook_size=99")
        assert planned_vocabulary(recipe) == vocabulary_of(recipe, load_tokenizers(recipe))


def test_a_recipe_says_services_in_two_ways() -> None:
    short = load_config(Recipe, {"tokenizers": {"vision": "tcp://a:1", "audio": ["tcp://b:1", "tcp://[::1]:2"]}}).tokenizers
    long = load_config(Recipe, {}, ["tokenizers.services.vision=tcp://a:1", "tokenizers.services.audio=[tcp://b:1, 'tcp://[::1]:2']"]).tokenizers
    several = load_config(Recipe, {}, ["tokenizers.vision=tcp://a:1", "tokenizers.services.audio=tcp://b:1,[::1]:2"]).tokenizers
    assert short.addresses("vision") == long.addresses("vision") == several.addresses("vision") == (Address("a", 1),)
    assert short.addresses("audio") == long.addresses("audio") == several.addresses("audio") == (Address("b", 1), Address("::1", 2))


@pytest.mark.parametrize(("override", "message"), [
    ("tokenizers.services.vision=a:1", "tokenizers.services.vision: 'a:1' is no address"),
    ("tokenizers.services.vision=tcp://a", "is no address; write tcp://host:port"),
    ("tokenizers.services.vision=tcp://a:1/x", "is no address"),
    ("tokenizers.services.vision=tcp://a:1,a:1", "each once"),
    ("tokenizers.services.picture=tcp://a:1", "services.picture is no kind of tokenizer"),
    ("tokenizers={vision: tcp://a:1, services: {vision: tcp://b:1}}", "does not name vision again"),
    ("tokenizers={parts: {text: {part: a:B}}, services: {text: tcp://b:1}}", "two tokenizers for one kind"),
    ("tokenizers.service_wait_s=0", "is a number of seconds above 0"),
])
def test_mistakes_of_recipes(override, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(Recipe, {}, [override]).check()


def test_mistakes_of_the_command(micro, tmp_path, capsys, monkeypatch) -> None:
    for words, message in (
        ([str(micro.folder), "--host", "0.0.0.0"], "can be reached from other machines, which needs a token"),
        ([str(tmp_path / "none")], "no such folder"), ([str(tmp_path)], "holds no tokenizers"),
        ([str(micro.folder / "tokenizers" / "audio"), "--kind", "vision", "audio"], "holds no vision tokenizer"),
        ([str(micro.folder), "--port", "70000"], "--port 70000 must lie in"), ([str(micro.folder), "--threads", "0"], "threads = 0"),
    ):
        assert main(["tokenizer", "serve", *words]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setenv("ERNIE5_SERVICE_TOKEN", "Zx81short")
    assert main(["tokenizer", "serve", str(micro.folder)]) == 2
    assert "must have" in (said := capsys.readouterr().err) and "Zx81" not in said


def test_folders_of_tokenizers(micro) -> None:
    parts = micro.folder / "tokenizers"
    assert list(open_tokenizers(parts)) == ["text", "vision", "audio"] and list(open_tokenizers(parts, ["audio"])) == ["audio"]
    assert open_tokenizers(parts / "audio", ["audio"])["audio"].fingerprint == open_tokenizers(parts)["audio"].fingerprint
