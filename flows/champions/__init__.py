"""Which version is live: the gate, the moves, the history, the way back."""
