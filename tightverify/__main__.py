"""`python -m tightverify`: the command line."""

import sys

from tightverify.cli.main import main

sys.exit(main())
