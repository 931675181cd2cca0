"""LiteLLM's generic guardrail API."""
