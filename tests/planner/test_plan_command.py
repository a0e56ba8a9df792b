"""`ernie5 plan` as a user meets it."""

import pytest

from ernie5.cli.main import main

SECTIONS = (
    "plan        torch: data 2, zero 0, recompute none\n",
    "hardware    2 x cpu on 1 node(s)", "model       6.56 M parameters",
    "step        4 rows x 256 positions; a data rank makes 1 passes of 2 row(s)",
    "per rank", "parameters                  6.56 M\n", "weights                   25.0 MiB\n", "optimizer                 50.0 MiB\n",
    "  recompute selective", "peak ", "sent per step", "  data                    25.0 MiB", "FLOPs per token",
    "bubble                0.0%", "mfu",
)


def test_a_plan_that_works(capsys) -> None:
    assert main(["plan", "tiny_cpu", "--gpus", "2", "--gpu", "cpu"]) == 0
    out = capsys.readouterr().out
    assert all(section in out for section in SECTIONS), out
    assert "cannot work" not in out and max(map(len, out.splitlines())) <= 140


def test_a_plan_that_does_not_fit(capsys) -> None:
    assert main(["plan", "ernie5_2t", "--gpus", "1536", "parallel.memory.recompute=none"]) == 1
    out = capsys.readouterr().out
    assert "cannot work: stage 1 of 12 needs" in out.splitlines()[-1] and "parallel.memory.recompute = full needs" in out


@pytest.mark.parametrize(("words", "message"), [
    (["tiny_cpu", "--gpus", "3"], "3 data rank(s) must divide the 4 rows of a step; use 1, 2 or 4 data ranks"),
    (["tiny_cpu", "--gpus", "2", "parallel.tensor=2"], "use parallel.tensor = 1 or parallel.engine = megatron"),
    (["tiny_cpu", "--gpu", "tpu"], "--gpu tpu is not known; use h100"),
    (["tiny_cpu", "--gpus", "0"], "--gpus 0 must be at least 1"),
    (["tiny_cpu", "--gpus", "4", "--nodes", "3"], "--nodes 3 must divide --gpus 4"),
    (["tiny_cpu", "train.precision=fp8"], "train.precision = fp8"),
])
def test_mistakes(words, message, capsys) -> None:
    assert main(["plan", *words]) == 2
    assert message in capsys.readouterr().err


def test_search(capsys) -> None:
    assert main(["plan", "one_gpu", "--gpus", "8", "--gpu", "h100", "--search", "parallel.engine=torch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "plans fit 8 x h100; the fastest:" in lines[0] and lines[-1].startswith("the first as key=value: parallel.engine=torch")
    best = lines[-1].partition(": ")[2].split()
    assert main(["plan", "one_gpu", "--gpus", "8", "--gpu", "h100", *best]) == 0
    shown = float(lines[3].split()[0])
    assert f"step                  {shown:.3g} s" in capsys.readouterr().out


def test_nodes_make_the_network_slower(capsys) -> None:
    seconds = []
    for nodes in ("1", "8"):
        assert main(["plan", "eight_gpus", "--gpus", "8", "--nodes", nodes]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  expert"))
        seconds.append(float(line.split()[-2]))
    assert seconds[1] > 4 * seconds[0]
