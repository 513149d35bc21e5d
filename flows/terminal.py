"""What commands print on."""

from rich.console import Console


def console(*, quiet: bool = False) -> Console:
    """The terminal, or whatever output goes to: text as it is, no numbers coloured and no `:words:` made pictures."""
    return Console(highlight=False, emoji=False, quiet=quiet)
