"""Errors of this package: each says what was given, what is wanted and what to do."""


class SolverError(Exception):
    """The root of the tree."""


class ProblemError(SolverError):
    """A problem that makes no sense: shapes that do not fit, NaN, crossed bounds; or a file that is none."""


class BackendError(SolverError):
    """A backend that is not there, or that cannot take this problem."""
