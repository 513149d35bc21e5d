"""The model is used here."""
