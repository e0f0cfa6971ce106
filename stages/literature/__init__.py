"""Published results, and ours set beside them by one rule."""
