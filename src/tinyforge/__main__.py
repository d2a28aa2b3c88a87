"""``python -m tinyforge`` is the command ``tinyforge``."""

import sys

from tinyforge.cli import main

sys.exit(main())
