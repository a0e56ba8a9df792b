"""The plan as DeepSpeed's own configuration, and DeepSpeed made ready to run on a machine without CUDA.

Always set: gradient clipping (DeepSpeed's default is 1.0, not off) and one micro-batch a step, because the engine itself says which one is
the last. `parallel.deepspeed` may add any other key. Source: https://www.deepspeed.ai/docs/config-json.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from ernie5.parallel.plan import ParallelPlan

SAID_BY = {  # key of DeepSpeed -> where a recipe says it
    "gradient_clipping": "train.optimizer.clip", "optimizer": "train.optimizer", "scheduler": "train.schedule",
    "gradient_accumulation_steps": "train.micro_rows", "train_micro_batch_size_per_gpu": "train.micro_rows",
    "train_batch_size": "train.rows", "fp16": "train.precision", "bf16": "train.precision",
    "torch_autocast": "train.precision", "zero_optimization.stage": "parallel.zero",
}


def deepspeed_config(plan: ParallelPlan, clip: float, bf16: bool) -> dict[str, Any]:
    """ValueError for a key of `parallel.deepspeed` that the recipe says elsewhere."""
    for key in SAID_BY:
        inner: Any = plan.deepspeed
        for part in key.split("."):
            inner = inner.get(part) if isinstance(inner, dict) else None
        if inner is not None:
            raise ValueError(f"parallel.deepspeed.{key} is set by the recipe; use {SAID_BY[key]} and leave it out")
    more: Any = plan.deepspeed.get("zero_optimization", {})
    zero: dict[str, Any] = {"stage": plan.zero, **more}
    if "optimizer" in plan.memory.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available(), **zero.get("offload_optimizer", {})}
    return {
        "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False, "steps_per_print": None, **plan.deepspeed,
        "zero_optimization": zero, "gradient_clipping": clip, "gradient_accumulation_steps": 1, "train_micro_batch_size_per_gpu": 1,
        "torch_autocast": {"enabled": bf16, "dtype": "bfloat16"},
    }


def import_deepspeed() -> Any:
    """The package, quiet, and on a machine without CUDA told to run on the CPU and to build nothing."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    from deepspeed.ops import __compatible_ops__ as operations

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if not torch.cuda.is_available():
        operations["deepspeed_shm_comm"] = False  # else C++ is compiled for half a minute, or the start fails without a compiler
    return deepspeed


def forget_groups() -> None:
    """What DeepSpeed remembers of process groups that are gone: an engine may be built twice in one process."""
    import deepspeed.comm.comm as communication
    from deepspeed.utils import groups

    communication.cdb = None
    groups._release_process_group_references(None)
