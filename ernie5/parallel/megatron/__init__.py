"""The Megatron engine: megatron-core splits, exchanges and schedules our plain model. Importing it takes seconds."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of every accelerator library that is not installed
    import megatron.core.distributed
    import megatron.core.optimizer
    import megatron.core.pipeline_parallel
    import megatron.core.tensor_parallel
    import megatron.core.transformer.moe.token_dispatcher  # noqa: F401
