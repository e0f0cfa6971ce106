"""From results to tables, words and pictures."""
