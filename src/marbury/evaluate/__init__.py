"""What gets through, what is refused, what it costs: the guard measured on held-out attacks and harmless traffic."""
