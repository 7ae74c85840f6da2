"""``python -m tools.kills``. Its processes need no module but ``tools.kills``."""

import sys

from tools.kills import main

sys.exit(main())
