"""Host interfaces that any program may export: logging, a key-value map, clock and chance, configuration."""
