"""`tune`: Optuna suggests, packs answer."""
