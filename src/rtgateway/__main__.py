"""``python -m rtgateway``: the same as the ``rtgateway`` command."""

import sys

from rtgateway.cli import main

sys.exit(main())
