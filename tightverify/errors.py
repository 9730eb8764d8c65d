"""Every error that `tightverify` raises on purpose.

Each message is a sentence that says what was given, what was wanted and what to do.
`UsageError` and its children are the user's to mend (exit code 2); `SoundnessFault` is ours (exit code 3).
"""


class TightVerifyError(Exception):
    """The root of the tree: catch it to catch everything that `tightverify` raises."""


class UsageError(TightVerifyError):
    """Something that the user gave cannot be used as it is."""


class UnknownOptionError(UsageError, TypeError):
    """A keyword that names no setting."""


class InputError(UsageError):
    """Inputs or labels that do not fit: shapes, types, NaN, labels out of range."""


class RegionError(UsageError):
    """A region that makes no sense: a negative radius, crossed bounds, an input outside its range."""


class ModelError(UsageError):
    """A model that cannot be read, or does not compute what its import computes."""


class BatchError(ModelError):
    """A model runs on one input, and fails on a batch of several."""


class DifferenceError(ModelError):
    """A model does not compute what its import computes."""


class RunError(ModelError):
    """A model's own runtime fails."""


class UnsupportedError(ModelError):
    """A model with a part that is not supported; says which, where, and what to do."""


class ShadowedError(UsageError, ImportError):
    """Another package of the name of one of ours is found before it."""


class SoundnessFault(TightVerifyError):
    """Two bounds contradict each other, or an import disagrees with its model: a bug of ours, never ignored."""


class OutOfTimeError(TightVerifyError):
    """The time given to an input ran out; caught where the verdict is made."""


class CancelledError(TightVerifyError):
    """Whoever had asked for a computation stopped it."""
