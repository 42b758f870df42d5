"""Every option declared once, and the frozen settings that the rest of the code sees.

`load` is the door. The parent imports this: no eventlet, paste, webob or routes here.
"""

from apid.conf.command_line import CommandLine, command_line
from apid.conf.load import load, working_directory

__all__ = ["CommandLine", "command_line", "load", "working_directory"]
