"""The former home of `tightverify.inputs.audio`, for one release."""

import warnings

from tightverify.inputs.audio import *  # noqa: F403

warnings.warn("tightverify.audio is tightverify.inputs.audio now", DeprecationWarning, stacklevel=2)
