"""Engine settings that give every backend and layout; each is held to the plain form."""

import pytest

from itnas.kernels.library import load

compiler = pytest.mark.skipif(load() is None, reason="no C++ compiler")
"""of tests of the compiled kernels"""

BACKENDS = {
    "groups": {"layout": "groups"},
    "loop": {"layout": "loop", "kernels": "torch"},
    "sizes": {"kernels": "torch"},
    "channels-last": {"layout": "groups", "channels_last": True},
    "compiled": {"kernels": "compiled"},
}
