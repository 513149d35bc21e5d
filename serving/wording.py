"""From tokens to text while it grows: whole characters only, and never past a stop string."""

from collections.abc import Callable, Sequence

DAMAGED = "\ufffd"
"""What a decoder puts where the bytes of a character are not all there yet."""


class Wording:
    """The text of one sequence.

    Args:
        decode: Tokens to text, special tokens left out.
        stops: Strings at which the text ends; they are not part of it.
        lead: Is left out at the very beginning (what a chat template puts before each turn).
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = (), lead: str = "") -> None:
        self._decode, self._stops, self._lead = decode, [stop for stop in stops if stop], lead
        self._tokens: list[int] = []
        self._settled_from = self._settled_to = 0
        self._held = ""
        self.kept = ""
        """What `keep` was given: the text so far, where nobody reads it piece by piece."""
        self.stopped = False

    def keep(self, text: str) -> None:
        """Remember what `push` returned until the end."""
        self.kept += text

    def push(self, token: int) -> str:
        """Take one more token; return the text that has become certain."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._settled_from : self._settled_to])
        now = self._decode(self._tokens[self._settled_from :])
        if len(now) <= len(before) or now.endswith(DAMAGED):
            return ""
        self._settled_from, self._settled_to = self._settled_to, len(self._tokens)
        return self._release(now[len(before) :])

    def finish(self) -> str:
        """The rest, half characters included; nothing more may be pushed."""
        if self.stopped:
            return ""
        before = self._decode(self._tokens[self._settled_from : self._settled_to])
        text = self._release(self._decode(self._tokens[self._settled_from :])[len(before) :])
        rest, self._held = self._held, ""
        return text + ("" if rest == self._lead else rest)

    def _release(self, fresh: str) -> str:
        text = self._held + fresh
        if self._lead:
            if len(text) < len(self._lead) and self._lead.startswith(text):
                self._held = text
                return ""
            text, self._lead = text.removeprefix(self._lead), ""
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
