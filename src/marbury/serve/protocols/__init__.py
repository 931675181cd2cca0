"""The endpoints that are guarded: each folder reads one, judges its replies and speaks its shapes."""
