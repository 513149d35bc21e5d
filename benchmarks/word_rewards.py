"""A reward without a network, to judge one by: a Bradley-Terry model over the words of a response and its end.

Shapes: P pairs, F features.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pair = Mapping[str, Any]
"""In the preference contract."""
PENALTIES = (10.0, 30.0, 100.0, 300.0)
END = (1, 3)
"""Words at the end of a response that are a feature together."""


def features(prompt: str, response: str) -> set[str]:
    """The words of a response, those among them that the prompt does not hold, its last words and last character.

    Each once, however often it is said: a word said again is no further evidence.
    """
    said, asked = _words(response), set(_words(prompt))
    ends = {f"end {' '.join(said[-number:])}" for number in END}
    return {*said, *(f"new {word}" for word in said if word not in asked), *ends, f"last {response.strip()[-1:]}"}


def fitted(pairs: Sequence[Pair], penalty: float) -> dict[str, float]:
    """The weight of each feature: most likely under Bradley and Terry 1952 less half the penalty by their squares."""
    place = {name: number for number, name in enumerate(sorted(set().union(*map(_of_both, pairs))))}
    differences_PF = _differences(pairs, place)

    def loss(weights_F: "NDArray[np.float64]") -> "tuple[float, NDArray[np.float64]]":
        margins_P = differences_PF @ weights_F
        doubt_P = np.exp(-np.logaddexp(0, margins_P))
        value = np.logaddexp(0, -margins_P).sum() + penalty / 2 * weights_F @ weights_F
        return value, penalty * weights_F - differences_PF.T @ doubt_P

    found = minimize(loss, np.zeros(len(place)), jac=True, method="L-BFGS-B")
    return dict(zip(place, found.x.tolist(), strict=True))


def correct(weights: Mapping[str, float], pairs: Sequence[Pair]) -> list[float]:
    """Of each pair: 1 in the annotator's order, 0.5 undecided, 0 in the other."""
    place = {name: number for number, name in enumerate(weights)}
    margins_P = _differences(pairs, place) @ np.fromiter(weights.values(), float)
    return (0.5 + 0.5 * np.sign(margins_P)).tolist()


def chosen(train: Sequence[Pair], others: Sequence[Pair]) -> dict[str, float]:
    """The weights learnt from `train` with the penalty that orders `others` best."""
    return max((fitted(train, penalty) for penalty in PENALTIES), key=lambda found: sum(correct(found, others)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _of_both(pair: Pair) -> set[str]:
    return features(pair["prompt"], pair["chosen"]) ^ features(pair["prompt"], pair["rejected"])


def _differences(pairs: Sequence[Pair], place: Mapping[str, int]) -> Any:
    """Features of the chosen response less those of the rejected one, (P, F); those without a place are left out."""
    entries = [
        (number, place[name], sign)
        for number, pair in enumerate(pairs)
        for sign, side in ((1.0, "chosen"), (-1.0, "rejected"))
        for name in _known(features(pair["prompt"], pair[side]), place)
    ]
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    return csr_array((np.array(values, float), (rows, columns)), shape=(len(pairs), len(place)))


def _known(names: Iterable[str], place: Mapping[str, int]) -> Iterable[str]:
    return (name for name in names if name in place)
