"""The model is looked after here, in a room for each subject; pyproject.toml says which lies above which."""
