"""OpenAI's `/v1/moderations`."""
