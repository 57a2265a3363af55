"""`tune`: Optuna suggests, packs answer, fresh seeds confirm."""

CONFIRM = 8
"""fresh seeds of the confirmation, where nobody says otherwise"""
BESIDE = 2
"""settings that are confirmed beside the incumbent"""
MOST_CONFIRMED = BESIDE + 2
"""with the incumbent and the default"""
