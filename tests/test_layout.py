"""The house rules that a machine can hold: who imports whom, file sizes, links, what must never appear, what must stay light."""

import ast
import os
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ernie5"
LINKS = ("tokenizers", "data_pipelines", "recipes")

BOTTOM = {"sequence", "uni_rope", "config", "config_build", "config_yaml", "run"}
# a recipe holds them, so they know no recipe
TRAIN_SETTINGS = {"ernie5.train.bit_growth", "ernie5.train.steps", "ernie5.train.optimizer", "ernie5.train.schedule"}
LIBRARY = BOTTOM | {"tokenizers", "data_pipelines", "model", "objectives", "parallel"}
MAY_IMPORT = {  # package -> the packages that it may use, besides itself
    **{name: BOTTOM | {""} for name in BOTTOM},
    "tokenizers": BOTTOM | {""},   # services say which version they are
    "data_pipelines": BOTTOM | {"tokenizers"},
    "model": BOTTOM,
    "objectives": BOTTOM | {"model"},
    "parallel": BOTTOM | {"model", "objectives"},
    "generate": BOTTOM | {"tokenizers", "data_pipelines", "model", "objectives"},
    "train settings": LIBRARY,
    "recipe": LIBRARY | {"train settings"},
    "analysis": BOTTOM,
    "report": BOTTOM | {"analysis"},
    "train": LIBRARY | {"generate", "recipe", "train settings", "analysis", "report"},
    "family": LIBRARY | {"generate", "recipe", "train", "train settings", "analysis", "report"},
    "planner": LIBRARY | {"recipe", "train", "train settings"},
    "ablate": LIBRARY | {"recipe", "train", "train settings", "report", ""},
    "inspect": LIBRARY | {"recipe", "train", "report"},
    "measure": LIBRARY | {"recipe", "train", "report"},
    "launch": BOTTOM,
    "cli": LIBRARY | {"launch", "generate", "recipe", "train", "family", "ablate", "analysis", "report", "inspect", "measure",
                      "planner", ""},
    "": set(),                 # ernie5/__init__.py: light, imports nothing of ours
    "__main__": {"cli"},
}


@cache
def sources() -> dict[str, ast.Module]:
    """Dotted module name -> syntax tree, of everything that is installed."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in files(PACKAGE)}
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, tree in trees.items()}


def files(folder: Path) -> list[Path]:
    """Every Python file below `folder`, links followed."""
    return sorted(Path(where) / name for where, _, names in os.walk(folder, followlinks=True) for name in names if name.endswith(".py"))


def package_of(module: str) -> str:
    """`ernie5.model.layer` -> `model`; `ernie5` itself -> ``."""
    if module in TRAIN_SETTINGS:
        return "train settings"
    parts = module.removesuffix(".__init__").split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(module: str, tree: ast.Module) -> set[str]:
    """The modules of ours that `module` imports anywhere, inside functions too."""
    found = set()
    here = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*here[:-node.level], *filter(None, [node.module])] if node.level else node.module.split(".")
            # `from ernie5 import cli` names the package in its second half
            found |= {".".join([*base, alias.name]) if base == ["ernie5"] else ".".join(base) for alias in node.names}
    return {"ernie5" if name == "ernie5.__version__" else name for name in found if name.split(".")[0] == "ernie5"}


def arrows() -> set[tuple[str, str, str]]:
    """(package, imported package, the module that does it)."""
    return {(package_of(module), package_of(name), module) for module, tree in sources().items() for name in imports(module, tree)}


def test_the_tree_is_read():
    assert {"ernie5.sequence", "ernie5.tokenizers.base", "ernie5.cli.main", "ernie5.__init__"} <= sources().keys()
    assert ("model", "sequence", "ernie5.model.unified_transformer") in arrows()


def test_import_direction():
    unknown = {package_of(module) for module in sources()} - MAY_IMPORT.keys()
    assert not unknown, f"say in MAY_IMPORT what {unknown} may import"
    wrong = sorted(f"{module} imports {used}" for package, used, module in arrows() if used != package and used not in MAY_IMPORT[package])
    assert not wrong, "\n".join(wrong)


def test_no_cycles_between_packages():
    graph = {package: {used for p, used, _ in arrows() if p == package and used != package} for package in MAY_IMPORT}
    while leaves := [package for package, uses in graph.items() if not uses & graph.keys()]:
        for package in leaves:
            del graph[package]
    assert not graph, f"these import each other: {graph}"


def test_files_are_small():
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for folder in (PACKAGE, ROOT / "tests") for path in files(folder)}
    long = {str(path.relative_to(ROOT)): n for path, n in sizes.items() if n > 300}
    assert not long, f"one idea, one file, at most 300 lines: {long}"
    assert statistics.median(n for path, n in sizes.items() if path.name != "__init__.py") <= 130


def test_test_files_have_names_of_their_own():
    names = [path.name for path in files(ROOT / "tests")]
    assert "__init__.py" not in names
    assert sorted(set(names) - {"conftest.py"}) == sorted(name for name in names if name != "conftest.py")


@pytest.mark.parametrize("name", LINKS)
def test_links_are_relative_and_hide_no_other_package(name):
    assert os.readlink(PACKAGE / name) == f"../{name}"
    assert (ROOT / name).is_dir() and not (ROOT / name / "__init__.py").exists()


def forbidden(module: str, tree: ast.Module) -> list[str]:
    """What the house never does: pickle in any clothes, and arguments handed on unnamed."""
    found = []
    packages, methods = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}, {("torch", "load"), ("torch", "save")}
    for node in ast.walk(tree):
        line = f"{module}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            found += [f"{line} imports {name}" for name in names if name.split(".")[0] in packages]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in methods:
            found.append(f"{line} uses torch.{node.attr}; tensors are kept as safetensors")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.kwarg:
            passed_on = {k.value.id for call in ast.walk(node) if isinstance(call, ast.Call)
                         for k in call.keywords if k.arg is None and isinstance(k.value, ast.Name)}
            if node.args.kwarg.arg in passed_on:
                found.append(f"{line} hands on **{node.args.kwarg.arg}; name the arguments")
    return found


def test_nothing_forbidden():
    assert not [line for module, tree in sources().items() for line in forbidden(module, tree)]


@pytest.mark.parametrize("code", ["import pickle", "from joblib import dump", "torch.load('x')", "def f(**kwargs):\n    g(**kwargs)"])
def test_the_forbidden_is_noticed(code):
    assert forbidden("x", ast.parse(code))


def test_modules_say_what_they_are():
    silent = [module for module, tree in sources().items() if tree.body and not ast.get_docstring(tree)]
    assert not silent, f"no module docstring: {silent}"
    long = [module for module, tree in sources().items() if len((ast.get_docstring(tree) or "").splitlines()) > 15]
    assert not long, f"more than 15 lines of module docstring: {long}"


HEAVY = {"deepspeed", "megatron", "wandb", "matplotlib", "transformers"}


@pytest.mark.parametrize(("code", "never"), [
    ("import ernie5", HEAVY | {"torch"}),
    ("import ernie5.cli.main", HEAVY | {"torch"}),
    ("from ernie5.cli.main import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass", HEAVY | {"torch"}),
    ("import ernie5.model.unified_transformer, ernie5.objectives.next_group", HEAVY),
], ids=["ernie5", "cli", "help", "model"])
def test_imports_stay_light(code, never):
    code += f"\nimport sys; print(sorted({never!r} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"
