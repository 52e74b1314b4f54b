"""The shapes of published models, cut to a few hundred megabytes and filled with random weights, as GGUF files.

Widths, heads, windows and routers are those of the model that is named; layers are fewer, and where one layer of a
mixture would be too large, so are its experts, of which as many are chosen as there. Knows no engine.
"""

from .attention import DENSE
from .mixtures import MIXTURES
from .recurrent import RECURRENT

SHAPES = {**DENSE, **MIXTURES, **RECURRENT}
