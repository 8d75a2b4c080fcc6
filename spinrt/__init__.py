"""spinrt: run other people's code inside your process, safely, at the speed of a call."""

__version__ = "0.1.0"
