"""The Megatron engine: megatron-core splits, exchanges and schedules our plain model. Importing it takes seconds."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of every accelerator library that is not installed
    import megatron.core.distributed
    import megatron.core.optimizer
    import megatron.core.pipeline_parallel
    import megatron.core.tensor_parallel
    import megatron.core.transformer.moe.token_dispatcher  # noqa: F401
    import megatron.core.transformer.multi_token_prediction  # noqa: F401

# said again and again, of what Megatron does and not of anything that its user could change
warnings.filterwarnings("ignore", r"`torch\.distributed\.(all_gather_into_tensor|reduce_scatter_tensor)` is deprecated", FutureWarning)
warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor that is not a leaf", UserWarning,
                        r"(torch\.optim|megatron|ernie5\.parallel\.megatron)\.")
