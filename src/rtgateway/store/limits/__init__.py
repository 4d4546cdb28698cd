"""Rate limits: who has taken how much. `asked` is the interface, the other modules its twins."""
