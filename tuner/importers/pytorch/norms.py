"""Statistics for batch norms of modules that were never trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tuner.importers.pytorch.errors import guarded


def settle_batch_norms(
    module: torch.nn.Module,
    call: Callable[[Sequence[torch.Tensor]], object],
    inputs: Sequence[torch.Tensor],
    source: str,
) -> None:
    """Give every batch norm the statistics of what reaches it, blurred, and a scale and bias that matter.

    What reaches it is computed from N(0, 1) inputs, as in `model_inputs`: example images are often zeros.
    One pass in eval mode, by `call`, which calls `module` with inputs: each layer is set just before it runs, so what
    follows sees normalized values. One thread, so that every process arrives at the same bits. Runs under the caller's
    seed.
    """
    kinds = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
    layers = [layer for layer in module.modules() if isinstance(layer, kinds) and layer.running_mean is not None]
    if not layers:
        return

    def settle(layer: torch.nn.Module, operands: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, kinds)
        over = [axis for axis in range(operands[0].dim()) if axis != 1]
        values = operands[0].float()
        mean, variance = values.mean(over), values.var(over, correction=0)
        variance = torch.where(variance > 1e-6, variance, values.square().mean() + 1e-3)
        assert layer.running_mean is not None and layer.running_var is not None
        layer.running_mean.copy_(mean + 0.1 * variance.sqrt() * torch.randn_like(mean))
        layer.running_var.copy_(variance * torch.empty_like(variance).uniform_(0.5, 1.5))
        if layer.affine:
            layer.weight.uniform_(0.8, 1.2)
            layer.bias.normal_(0.0, 0.1)

    drawn = tuple(torch.randn_like(e) if e.is_floating_point() else e for e in inputs)
    hooks = [layer.register_forward_pre_hook(settle) for layer in layers]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        guarded(source, "the module fails on random inputs", lambda: call(drawn))
    finally:
        torch.set_num_threads(threads)
        for hook in hooks:
            hook.remove()
