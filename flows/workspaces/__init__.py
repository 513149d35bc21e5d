"""Where a run works: the checkout, a copy with a profile, a clone at a pinned commit."""
