"""Renderers: one file per language a lowered kernel can be written in."""
