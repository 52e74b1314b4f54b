"""Token ids only: load, step, sample. Nothing here knows text or HTTP."""
