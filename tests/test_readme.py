"""What the README shows works: Python blocks run, every `ernie5` line is understood, links lead somewhere, CI runs its test command."""

import re
import shlex
from pathlib import Path

import pytest

from ernie5.cli.main import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [part.strip() for block in blocks("bash") for line in block.splitlines() for part in line.split("&&")]
    return [line for line in lines if line.startswith("ernie5 ")]


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, capsys: pytest.CaptureFixture) -> None:
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert "ModelSize" in capsys.readouterr().out


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line: str) -> None:
    arguments = parse(shlex.split(line)[1:])
    assert callable(arguments.run)


def test_there_is_something_to_test() -> None:
    assert len(commands()) >= 8 and blocks("python")


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]
    assert links and not missing


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = [part.strip() for block in blocks("bash") for part in block.split("&&") if "pytest" in part]
    assert command in (ROOT / ".ci" / "run").read_text()
