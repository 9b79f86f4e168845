"""The parts' losses, weighted and summed; a part counts where a photo has its label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontl.kit.partial import divisor
from visiontl_multi.batches import part_batch
from visiontl_multi.config import MultiConfig


def loss(
    cfg: MultiConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """{"loss": the weighted sum, and what each part tells, under part/name}.

    fixed: sum of w_p L_p. uncertainty: sum of w_p (exp(-s_p) L_p + s_p / 2), s_p = log of the part's variance, learned
    (Kendall et al. 2018, equation 10; a part's loss is a mean, so its scale is part of s_p). balance: sum of L_p, for
    the weights stand in the gradients (`balance.Fork`). L_p is the mean over the update's photos that the part labels.
    """
    total: Any = outputs.get("zero", 0.0)
    told: dict[str, Any] = {}
    for name, made in outputs["parts"].items():
        part, here = cfg.tasks[name], part_batch(batch, name)
        own = meta["terms"][name]
        if own:
            here["labeled"] = {term: batch["labeled"][f"{name}/{term}"] for term in own}
        losses = part.task.loss(part.section, made, here, meta["parts"][name]["meta"])
        value: Tensor = losses["loss"]
        told |= {f"{name}/{key}": one.detach() if isinstance(one, Tensor) else one for key, one in losses.items()}
        share = 1.0
        if "labeled" in batch and not own:  # the part's mean is over this batch; the update's is what counts
            share = len(batch["parts"][name]["owners"]) / divisor(batch, name)
        weight = 1.0 if cfg.weighting == "balance" else cfg.weight(name)
        if "log_variances" in outputs:
            variance = outputs["log_variances"][name]
            value = (-variance).exp() * value + variance / 2
            told[f"{name}/log_variance"] = variance.detach()
        total = total + weight * share * value
    return {"loss": total, **told}
