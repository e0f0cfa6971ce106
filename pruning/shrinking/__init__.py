"""Smaller networks from masked ones: `shrink` removes what the masks take whole."""
