"""Doubles that tests inject, and that users of spinrt may import for their own."""
