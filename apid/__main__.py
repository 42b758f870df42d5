"""`python -m apid` is `apid`."""

import sys

from apid.cli.main import apid

sys.exit(apid())
