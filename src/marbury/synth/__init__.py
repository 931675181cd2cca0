"""From the constitution to labelled conversations: the bundled corpus, or texts that a model writes."""
