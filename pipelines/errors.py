"""The errors a user may meet; each says what, which value, and the remedy.

MoteurError                 exit 1
|-- ParamsError             exit 2   params.yaml or a profile is wrong
|-- DataError               exit 3   the input cannot be read or does not meet its contract
|-- ArtifactError           exit 4   something a stage made is missing, torn or of another kind
|   `-- HeadMissing                  a reward model's folder lacks weights
|-- ResourceError           exit 5   disk, memory or device do not suffice
|-- TrainingError           exit 6   a loss is not a number, a policy collapsed
|-- GateError               exit 7   what was made is not good enough to go on with
`-- Preempted               exit 143 the process was asked to stop and has saved its state
"""


class MoteurError(Exception):
    """Base of all errors that are the world's fault and not a bug of ours."""

    exit_code = 1


class ParamsError(MoteurError):
    """params.yaml or a profile is wrong."""

    exit_code = 2


class DataError(MoteurError):
    """Input data cannot be read or do not meet their contract."""

    exit_code = 3


class ArtifactError(MoteurError):
    """An artifact is missing, torn or of another kind than expected."""

    exit_code = 4


class HeadMissing(ArtifactError):  # noqa: N818  what is wrong, in two words
    """A folder lacks weights of a reward model, those of its head for instance."""


class ResourceError(MoteurError):
    """Disk, memory or device do not suffice."""

    exit_code = 5


class TrainingError(MoteurError):
    """Training went where it must not: NaN, divergence, collapse."""

    exit_code = 6


class GateError(MoteurError):
    """What was made does not meet the limits in params.yaml, so that nothing is built on it."""

    exit_code = 7


class Preempted(MoteurError):  # noqa: N818  it is a request, not a fault
    """SIGTERM arrived; the state is saved and the next run resumes."""

    exit_code = 143
