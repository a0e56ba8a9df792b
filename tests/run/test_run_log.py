"""Where messages go, and what never gets into them."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest

from ernie5.run.folder import RunFolder
from ernie5.run.log import logging_to
from ernie5.run.secrets import mask

SECRET = "wandb-0123456789abcdefSECRET"


def test_rank_zero_speaks_and_every_rank_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in (0, 1):
        with logging_to(tmp_path, rank):
            logging.getLogger("ernie5.train.loop").info("step %d of rank %d", 7, rank)
            logging.getLogger("ernie5.train.loop").error("broken on %d", rank)
            logging.getLogger("ernie5.train.loop").debug("too much")
        assert "step 7" in (tmp_path / f"rank-{rank}.log").read_text() and "too much" not in (tmp_path / f"rank-{rank}.log").read_text()
    out, err = capsys.readouterr()
    assert out == "" and err == "step 7 of rank 0\nbroken on 0\n[rank 1] broken on 1\n"


def test_it_leaves_the_logger_as_it_was_and_appends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("ernie5")
    before = (list(logger.handlers), logger.level, logger.propagate)
    monkeypatch.setenv("RANK", "3")
    for text in ("one", "two"):
        with pytest.raises(KeyError), logging_to(tmp_path) as log:
            log.info(text)
            raise KeyError
    assert (list(logger.handlers), logger.level, logger.propagate) == before
    assert [line.rpartition(" ")[2] for line in (tmp_path / "rank-3.log").read_text().splitlines()] == ["one", "two"]


@pytest.mark.parametrize("text", [
    f"key {SECRET} end", base64.b64encode(SECRET.encode()).decode(), base64.b64encode(f"user:{SECRET}".encode()).decode(),
    base64.b64encode(f"xy{SECRET}z".encode()).decode(), f"https://me:{SECRET}@host/path", f"https://host/x?a=1&token={SECRET}&b=2",
    f"Authorization: Bearer {SECRET}", f"{{'api_key': '{SECRET}'}}"])
def test_values_of_the_environment_are_masked(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    encoded = base64.b64encode(SECRET.encode()).decode().rstrip("=")
    assert SECRET not in mask(text) and "***" in mask(text) and encoded not in mask(text)


@pytest.mark.parametrize(("text", "masked"), [
    ("hf_abcdefghijklmnopqrstuv", "***"), ("use ghp_0123456789abcdefghij0123 now", "use *** now"), ("AKIAIOSFODNN7EXAMPLE", "***"),
    ("s3://bucket/x?X-Amz-Signature=deadbeef&n=1", "s3://bucket/x?X-Amz-Signature=***&n=1"), ("git https://user:pw@h/r", "git https://***@h/r"),
    ("password: hunter22x", "password: ***"), ("api_key='abcdef0123'", "api_key='***'"), ('"secret": "abcdefgh"', '"secret": "***"'),
    ("auth_token: 0123456789abcdefABCDEF", "auth_token: ***"), ("token=0123456789abcdefABCDEF", "token=***")])
def test_shapes_of_secrets(text: str, masked: str) -> None:
    assert mask(text) == masked and mask(masked) == masked


@pytest.mark.parametrize("text", [
    "loss per token: 0.123456789012345678", "token = self.vocabulary[index]", "password = os.environ['PASSWORD']", "num_tokens: 1000000000",
    "secret = read()",
    "https://host/path?page=2", "tokenizer: sentencepiece-0123456789abcdef", "text_tokens_per_step=12345678901234567890"])
def test_ordinary_text_stays(text: str) -> None:
    assert mask(text) == text


def test_no_secret_in_anything_a_run_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    folder = RunFolder(tmp_path).create()
    folder.write_recipe(f"data: https://u:{SECRET}@host/shard.tar\nteacher_token: {SECRET}\n")
    folder.write_code()
    with logging_to(folder.logs, 0) as log:
        log.info("downloading with %s", SECRET)
        try:
            raise RuntimeError(f"403 for {SECRET}")
        except RuntimeError:
            log.exception("failed")
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"***" in written and b"Traceback" in written
    assert SECRET.encode() not in written and SECRET not in capsys.readouterr().err
    assert base64.b64encode(SECRET.encode()) not in written


def test_short_and_ordinary_variables_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "train")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallel-for-sure")
    assert mask("train parallel-for-sure") == "train parallel-for-sure"
