"""Learning: batches, the training loop, decoding, preferences, policy optimisation, pruning, distillation."""
