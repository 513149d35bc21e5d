"""The tokens that structure text, and the chat template that puts conversations together with them."""

from collections.abc import Sequence

PAD, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>"
RESERVED = tuple(f"<|reserved_{number}|>" for number in range(3))
SPECIAL_TOKENS = (PAD, END, USER, ASSISTANT, SYSTEM, *RESERVED)
"""In the order of their ids, from 0."""
ROLES = (USER, ASSISTANT, SYSTEM)
"""They say who speaks; text without conversations never holds them."""


LEAD = " "
"""Before the content of each turn, so that its first word is the same token as within a sentence: byte-level BPE writes
" barn" and "barn" with different tokens, and a small model does not learn to copy the one as the other."""


def virtual(count: int) -> tuple[str, ...]:
    """Names for the tokens of a soft prompt."""
    return tuple(f"<|virtual_{number}|>" for number in range(count))


def template(end: str = END, opening: Sequence[str] = ()) -> str:
    """A Jinja chat template for system, user and assistant turns.

    Each turn is its role's token, `LEAD` and the content; an assistant's turn ends with `end`. What the assistant
    says, `end` included, is marked as generated, so that loss masks come from the template. A special token that
    stands in the content is written with a space inside (`< |user|>`) and is then plain text: nobody can forge a turn.
    Every conversation begins with the special tokens `opening`.
    """
    special = dict.fromkeys((*SPECIAL_TOKENS, *opening, end))
    harmless = "".join(f" | replace('{token}', '{spaced(token)}')" for token in special)
    content = f"(message['content']{harmless})"
    return (
        f"{''.join(opening)}"
        "{% for message in messages %}"
        f"{{% if message['role'] == 'assistant' %}}{{{{ '{ASSISTANT}' }}}}"
        f"{{% generation %}}{{{{ '{LEAD}' + {content} + '{end}' }}}}{{% endgeneration %}}"
        f"{{% elif message['role'] == 'user' %}}{{{{ '{USER}{LEAD}' + {content} }}}}"
        f"{{% elif message['role'] == 'system' %}}{{{{ '{SYSTEM}{LEAD}' + {content} }}}}"
        "{% else %}{{ raise_exception('no such role: ' + message['role'] + '; use system, user or assistant') }}"
        "{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ '{ASSISTANT}' }}}}{{% endif %}}"
    )


def spaced(token: str) -> str:
    """A special token with a space inside: plain text."""
    return f"{token[0]} {token[1:]}"
