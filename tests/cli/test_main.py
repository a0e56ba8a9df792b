"""The command line: help, mistakes and exit codes, and what each command asks of the library (stand-ins record the calls)."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from ernie5 import __version__
from ernie5.cli import main as program
from ernie5.cli import parsing, recipes
from ernie5.cli.main import main

HELPS = [[], ["train"], ["launch"], ["resume"], ["ablate"], ["sample"], ["eval"], ["export"], ["analyze"], ["data"], ["data", "demo"],
         ["data", "pack"], ["data", "inspect"], ["data", "verify"],
         ["data", "curate"], ["tokenizer"], ["tokenizer", "train"], ["recipes"], ["recipes", "list"], ["recipes", "copy"]]


@pytest.fixture
def library(monkeypatch):
    """`library("ernie5.train.job", "train_recipe", result)` puts a stand-in there and returns the list of its calls."""
    def replace(module: str, name: str, result=None, **others):
        calls = []

        def stand_in(*args, **kwargs):
            calls.append((args, kwargs))
            if isinstance(result, BaseException):
                raise result
            return result

        fake = ModuleType(module)
        vars(fake).update({name: stand_in, **others})
        monkeypatch.setitem(sys.modules, module, fake)
        return calls
    return replace


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """A folder of shipped recipes; the working folder is another, empty one."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "tiny.yaml").write_text("#\n# The smallest one.\nrun:\n  name: tiny\n")
    (folder / "demo.yaml").write_text("# A bigger one.\nbase: tiny.yaml   # all else\n")
    monkeypatch.setattr(recipes, "SHIPPED", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_fits_a_screen(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0
    assert lines[0].startswith(" ".join(["usage: ernie5", *words]))
    assert len(lines) <= 24 and max(map(len, lines)) <= 80


@pytest.mark.parametrize(("words", "shown"), [([], "first steps"), (["data"], "usage: ernie5 data"), (["recipes"], "list | copy NAME")])
def test_no_command_shows_the_help(words, shown, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and shown in capsys.readouterr().out


def every_parser(parser, words=()):
    """`parser` and those of all its commands, with the words that lead there."""
    yield parser, list(words)
    for action in parser._actions:
        if isinstance(action, parsing.Subparsers):
            for name, other in action.choices.items():
                yield from every_parser(other, (*words, name))


def test_every_command_and_every_long_option_is_named_for_a_typing_error(capsys, monkeypatch):
    whole = []
    monkeypatch.setattr(program, "check_words", lambda parser, words: (whole.append(parser), parsing.check_words(parser, words)))
    main(["trian"])
    checked = 0
    for parser, words in every_parser(whole[0]):
        known = [action.choices for action in parser._actions if isinstance(action, parsing.Subparsers)]
        for name in [*(known[0] if known else ()), *(option for option in parser._option_string_actions if len(option) > 4)]:
            typed = name[:-2] + name[-1] + name[-2] if name[-1] != name[-2] else name + "x"
            if typed in (*(known[0] if known else ()), *parser._option_string_actions):
                continue
            capsys.readouterr()
            assert main([*words, typed]) == 2 and f"{typed!r}; did you mean {name!r}?" in capsys.readouterr().err, typed
            checked += 1
    assert checked > 40


SENTENCE = "-- a sentence that begins with dashes"


@pytest.mark.parametrize("words", [[".", "x", "--guid", "2"], [".", SENTENCE], [".", "x", "--guidance", "-.5"], ["--", ".", "--x"]])
def test_what_argparse_takes_is_no_typing_error(words, library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = library("ernie5.train.sample", "sample_run", "")
    assert main(["sample", "--to", "image", *words]) == 0 and len(calls) == 1


def test_version_and_module(tmp_path):
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "ernie5", "--version"], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"ernie5 {__version__}"


def test_train_hands_over_recipe_and_overrides(library, shelf):
    calls = library("ernie5.train.job", "train_recipe", 75)
    assert main(["train", "tiny", "train.steps=3", "run.name=a=b"]) == 75
    assert calls == [((shelf / "tiny.yaml", ["train.steps=3", "run.name=a=b"]), {})]
    Path("mine.yaml").write_text("# mine\n")
    main(["train", "mine.yaml"])
    assert calls[1] == ((Path("mine.yaml"), []), {})


@pytest.mark.parametrize("word", ["--local_rank=3", "--local-rank=3"])
def test_the_word_of_other_launchers_is_taken(word, library, shelf, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    calls = library("ernie5.train.job", "train_recipe", 0)
    assert main([word, "train", "tiny"]) == 0 and calls == [((shelf / "tiny.yaml", []), {})] and os.environ["LOCAL_RANK"] == "3"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main([word, "train", "tiny"]) == 0 and os.environ["LOCAL_RANK"] == "1"


@pytest.mark.parametrize("words", [["runs/a@100", "train.steps=9", "--to", "b"], ["runs/a@100", "--to", "b", "train.steps=9"],
                                   ["--to", "b", "runs/a@100", "train.steps=9"]])
def test_resume_takes_its_arguments_in_any_order(words, library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/a").mkdir(parents=True)
    calls = library("ernie5.train.job", "resume_run", 0)
    assert main(["resume", *words]) == 0
    assert calls == [(("runs/a@100", ["train.steps=9"], Path("b")), {})]


def test_sample(library, tmp_path, capsys):
    calls = library("ernie5.train.sample", "sample_run", "done")
    picture = tmp_path / "x.png"
    picture.touch()
    assert main(["sample", str(tmp_path), "a small red circle", "--to", "video", "--guidance", "2", "--seed", "5"]) == 0
    assert main(["sample", str(tmp_path), "--image", str(picture), "--to", "text"]) == 0
    nothing = {"image": None, "video": None, "audio": None, "guidance": None, "temperature": None}
    expected = nothing | {"to": "video", "out": Path("sample.mp4"), "guidance": 2.0, "seed": 5}
    assert calls[0] == ((tmp_path, "a small red circle"), expected)
    assert calls[1][0] == (tmp_path, None) and calls[1][1]["image"] == picture and calls[1][1]["out"] is None
    assert capsys.readouterr().out == "done\ndone\n"


def test_eval_prints_the_table(library, tmp_path, capsys):
    row = {"accuracy": 0.5, "chance": 0.01, "ceiling": 0.99, "n": 200, "attributes": {"colour": 0.9}}
    calls = library("ernie5.train.evaluate", "evaluate_run", {"text_to_image": row, "loss": {"text": 1.25, "marginal/text": 2.5}})
    assert main(["eval", str(tmp_path), "--n", "7"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert calls == [((str(tmp_path),), {"n": 7, "overrides": []})]
    assert out[1].split() == ["text_to_image", "0.500", "0.010", "0.990", "200"] and out[-1].split() == ["text", "1.250", "2.500"]


def test_data_pack_prints_the_report(library, tmp_path, capsys):
    calls = library("ernie5.data_pipelines.pack_folder", "pack_folder", "packed 3 samples")
    assert main(["data", "pack", str(tmp_path), "out"]) == 0
    assert calls == [((tmp_path, Path("out")), {})] and capsys.readouterr().out == "packed 3 samples\n"


def test_tokenizer_train_reads_the_recipe(library, shelf):
    calls = library("ernie5.train.train_tokenizers", "prepare")
    assert main(["tokenizer", "train", "tiny", "run.seed=7"]) == 0
    (recipe, only), _ = calls[0]
    assert recipe.run.name == "tiny" and recipe.run.seed == 7 and only is None and Path("runs/tiny").is_dir()
    assert main(["tokenizer", "train", "tiny", "run.sed=7"]) == 2 and len(calls) == 1


def test_data_demo_builds_its_settings(library, capsys):
    @dataclass(frozen=True)
    class Settings:
        seed: int = 0
        share: float = 0.5

    summary = SimpleNamespace(folder=Path("out"), num_samples={"train/image": 20}, num_bytes=1_500_000)
    calls = library("ernie5.data_pipelines.synthetic.demo", "write_demo", summary, DemoConfig=Settings)
    assert main(["data", "demo", "out", "share=1e-1", "seed=3"]) == 0
    assert calls == [((Path("out"), Settings(seed=3, share=0.1)), {})]
    assert capsys.readouterr().out.split() == ["20", "train/image", "1.5", "MB", "in", "out"]
    assert main(["data", "demo", "out", "sed=3"]) == 2


def test_recipes_list(shelf, capsys):
    assert main(["recipes", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["demo  A bigger one.", "tiny  The smallest one."]


def test_recipes_copy_takes_the_base_along_and_overwrites_nothing(shelf, capsys):
    assert main(["recipes", "copy", "demo"]) == 0
    assert Path("demo.yaml").read_text() == (shelf / "demo.yaml").read_text() and Path("tiny.yaml").exists()
    assert main(["recipes", "copy", "demo.yaml", "."]) == 0  # the same files again do no harm
    Path("tiny.yaml").write_text("# changed\n")
    assert main(["recipes", "copy", "demo"]) == 2
    assert "already there" in capsys.readouterr().err and Path("tiny.yaml").read_text() == "# changed\n"


def test_every_shipped_recipe_can_be_listed_and_found():
    for name, path in recipes.shipped().items():
        assert recipes.headline(path), f"{path} needs a first comment line that says what it is for"
        assert recipes.find_recipe(name) == path and all(base.is_file() for base in recipes.with_bases(path))


MISTAKES = [
    (["trian", "x"], "ernie5 has no command 'trian'; did you mean 'train'?"),
    (["--verson"], "ernie5 does not know '--verson'; did you mean '--version'?"),
    (["data", "verfy", "x"], "ernie5 data has no command 'verfy'; did you mean 'verify'?; see ernie5 data --help"),
    (["data", "verfy", "--help"], "did you mean 'verify'?"),
    (["data", "--hlep"], "ernie5 data does not know '--hlep'; did you mean '--help'?"),
    (["tokenizer", "tran", "tiny"], "ernie5 tokenizer has no command 'tran'; did you mean 'train'?"),
    (["recipes", "lst"], "did you mean 'list'?"),
    (["eval", ".", "--gird"], "ernie5 eval does not know '--gird'; did you mean '--grid'?"),
    (["sample", ".", "a dog", "--too", "image"], "did you mean '--to'?"),
    (["resume", "--too=b", "."], "does not know '--too=b'; did you mean '--to'?"),
    (["data", "inspect", "x", "--htlm", "x.html"], "ernie5 data inspect does not know '--htlm'; did you mean '--html'?"),
    (["train", "tinny"], "did you mean 'tiny'?"),
    (["train", "recipes/tiny.yaml"], "did you mean 'tiny'?"),
    (["train", "mime.yaml"], "did you mean 'mine.yaml'?"),
    (["train", "tiny", "steps"], "is no key=value"),
    (["train", "tiny", "=3"], "is no key=value"),
    (["train", "tiny", "--steps=3"], "does not know '--steps=3'; see ernie5 train --help"),
    (["eval", ".", "key=1"], "is not a run folder"),
    (["eval", "nowhere"], "no such run folder"),
    (["eval", ".", "--n", "0"], "must be at least 1"),
    (["resume", "runs/a@last"], "runs/a@1000"),
    (["resume", "runs/a@7"], "runs/a: no such run folder"),
    (["sample", ".", "--to", "text"], "nothing to start from"),
    (["sample", ".", "--image", "no.png", "--to", "text"], "--image no.png: no such file"),
    (["sample", ".", "a dog", "--to", "image", "--out", "x.mp4"], "must end in .png or .jpg"),
    (["sample", ".", "a dog", "--to", "image", "--temperature", "-1"], "must be at least 0"),
    (["recipes", "copy", "dmo"], "did you mean 'demo'?"),
    (["data", "pack", "nowhere", "out"], "no such folder"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_clear_message(words, message, shelf, capsys):
    Path("mine.yaml").touch()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("ernie5: ") and message in err and err.count("\n") == 1


@pytest.mark.parametrize(("error", "code", "message"), [
    (ValueError("parallel.expert = 3 must divide 8"), 2, "ernie5: parallel.expert = 3 must divide 8"),
    (FileNotFoundError(2, "No such file or directory", "a/b.tar"), 2, "ernie5: a/b.tar: no such file or directory"),
    (OSError(28, "No space left on device"), 2, "ernie5: no space left on device"),
    (KeyboardInterrupt(), 130, "ernie5: interrupted"),
])
def test_errors_of_the_library_are_explained(error, code, message, library, shelf, capsys, monkeypatch):
    library("ernie5.train.job", "train_recipe", error)
    assert main(["train", "tiny"]) == code
    assert capsys.readouterr().err.strip() == message
    monkeypatch.setenv("ERNIE5_DEBUG", "1")
    with pytest.raises(type(error)):
        main(["train", "tiny"])


def test_our_own_mistakes_keep_their_traceback(library, shelf):
    library("ernie5.train.job", "train_recipe", AssertionError("impossible"))
    with pytest.raises(AssertionError):
        main(["train", "tiny"])


def test_a_reader_that_goes_away_is_no_error():
    command = f'"{sys.executable}" -u -m ernie5 train --help | true'
    done = subprocess.run(command, shell=True, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
