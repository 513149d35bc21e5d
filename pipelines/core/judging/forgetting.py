"""How much of the pretraining a later stage undid."""


def forgetting(before: float, after: float) -> float:
    """Relative change of bits per byte on held-out pretraining text: 0.05 is five per cent worse."""
    return after / before - 1
