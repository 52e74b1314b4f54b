"""What `mlxrun selftest` asks of a machine: ten parts, each in a process of its own with a deadline.

`PARTS` is the table, `run` goes through it, `report` makes a file to share of what was found. A part knows what it
tries and nothing of the others; none sends anything anywhere. Written for Macs, and never run on one.
"""

from .parts import PARTS as PARTS
from .results import Part as Part
from .results import Result as Result
from .watch import run as run
