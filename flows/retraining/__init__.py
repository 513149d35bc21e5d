"""The lifecycle again, at a pinned commit, with what was accepted since, up to publication."""
