"""The toon world: parametric cartoon characters with exact labels (attributes → picture and
captions)."""
