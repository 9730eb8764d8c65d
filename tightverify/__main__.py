"""`python -m tightverify`: the command line."""

import sys

from tightverify.cli import main

sys.exit(main())
