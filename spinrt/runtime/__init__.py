"""Domains, linking, capabilities, events and calls: what runs extensions. Knows neither mail nor storage."""
