"""The held-out loss of a model right before and right after bits are switched on: the same weights, wider batches.

    python docs/benchmarks/bit_switch.py RUN_DIR@STEP     a checkpoint of the last step with few bits, e.g. runs/bits_cpu@300

Before: the bits that are on. After: all that the tokenizer has. Old bits must not move, new ones begin at ln 2.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

from ernie5.run.folder import RunFolder
from ernie5.train.evaluate_loss import heldout_batches, loss_on
from ernie5.train.load import load_run


def main(spec: str) -> None:
    recipe, model, generator, saved = load_run(spec, "cpu")
    few, all_bits = generator.widths.bits, model.vocabulary.bits
    found = []
    for width in (few, all_bits):
        generator.widths = replace(generator.widths, bits=width)
        batches = list(heldout_batches(recipe, RunFolder(Path(recipe.run.folder)), generator, recipe.evaluate.num_samples))
        found.append(loss_on(model, batches, (few, all_bits)))
    before, after = found
    old, new = f"vision/bits 1-{few}", f"vision/bits {few + 1}-{all_bits}"
    print(f"step {saved.step}: {few} of {all_bits} bits on")
    print(f"{'':16}{'before':>10}{'after':>10}{'difference':>12}")
    for name in ("text", "vision", old):
        print(f"{name:16}{before[name]:>10.5f}{after[name]:>10.5f}{after[name] - before[name]:>12.1e}")
    print(f"{new:16}{'':10}{after[new]:>10.5f}{after[new] - math.log(2):>12.1e}  (from ln 2)")
    print(f"the loss of vision may rise by {(1 - few / all_bits) * (math.log(2) - before[old]):.5f} and rises by "
          f"{after['vision'] - before['vision']:.5f}")


if __name__ == "__main__":
    main(sys.argv[1])
