"""Cases of the law, one file for each family. Each row is checked against the rule's expected signature."""

from __future__ import annotations

from tests.cases.attention import ATTENTION
from tests.cases.constant import CONSTANT
from tests.cases.convolution import CONVOLUTION
from tests.cases.einsum import EINSUM
from tests.cases.elementwise import ELEMENTWISE
from tests.cases.joining import JOINING
from tests.cases.layout import LAYOUT
from tests.cases.linear import LINEAR
from tests.cases.loss import LOSS
from tests.cases.microsoft import MICROSOFT
from tests.cases.normalization import NORMALIZATION
from tests.cases.pooling import POOLING
from tests.cases.quantized import QUANTIZED
from tests.cases.recurrent import RECURRENT
from tests.cases.reduction import REDUCTION
from tests.cases.sampling import SAMPLING
from tests.cases.selection import SELECTION
from tests.cases.sequences import SEQUENCES
from tests.cases.shapes import SHAPES
from tests.cases.spectral import SPECTRAL

CASES = [
    *ATTENTION,
    *MICROSOFT,
    *QUANTIZED,
    *LOSS,
    *SAMPLING,
    *SPECTRAL,
    *EINSUM,
    *SHAPES,
    *ELEMENTWISE,
    *CONVOLUTION,
    *LINEAR,
    *JOINING,
    *LAYOUT,
    *NORMALIZATION,
    *POOLING,
    *RECURRENT,
    *REDUCTION,
    *SELECTION,
    *SEQUENCES,
    *CONSTANT,
]
