"""Engine settings that give every backend and layout; each is held to the plain form."""

BACKENDS = {
    "groups": {"layout": "groups"},
    "loop": {"layout": "loop", "kernels": "torch"},
    "sizes": {"kernels": "torch"},
    "channels-last": {"layout": "groups", "channels_last": True},
    "compiled": {"kernels": "compiled"},
}
