"""The stages that make a model, and what they share."""
