"""The endpoints that the drill knows, a module each."""
