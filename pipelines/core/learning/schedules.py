"""Learning rates over a run."""

import math


def warmup_cosine(step: int, steps: int, *, peak: float, warmup_share: float, final_share: float) -> float:
    """Learning rate of the step `step` of `steps`: linear up to `peak`, then a cosine down to `final_share` of it.

    The first step already moves (the warm-up starts above zero) and the last one stands at the final share.
    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts.
    """
    warmup = round(warmup_share * steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
